"""Is a file of an export the one that was written? export.json has the hashes; those of 0.2.0 have none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from common import shipped
from common.errors import UserError, first_line

from .file_names import METADATA


def check(folder: Path, name: str) -> None:
    """Raise a UserError where a file of an export that is there has another hash than export.json says."""
    digest = recorded(folder).get(name)
    if digest and (folder / name).is_file():
        check_file(folder / name, digest)


def check_file(path: Path, digest: str) -> None:
    """Raise a UserError where a file of an export is missing or has another sha256 than was recorded."""
    if not path.is_file():
        raise broken(path, FileNotFoundError("no such file"))
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise broken(path, ValueError(f"its sha256 is not {digest[:12]}..., which is recorded"))


def recorded(folder: Path) -> dict[str, str]:
    """Return the hashes of an export's files that hold tensors, by name; none where export.json has none."""
    try:
        hashes: dict[str, str] = json.loads((folder / METADATA).read_bytes())["origin"].get("files", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # who reads the metadata says what is wrong
    return hashes


def broken(path: Path, error: Exception) -> UserError:
    """Return the error for a file that cannot be read, with the way to get it again."""
    remedy = "export the run again with `python -m trainer export`"
    if path.resolve().is_relative_to((shipped.ROOT / "pretrained").resolve()):
        remedy = f"restore it with `git checkout -- {path}`, or install the package again"
    return UserError(f"{path}: is missing or damaged ({first_line(error)}); {remedy}")
