"""The folder that `generate` writes: it holds the images of one request, and images.json says of which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.atomic_writes import publish
from common.errors import UserError
from trainer.config.changes import changes

RECORD = "images.json"
NOT_COMPARED = ("command", "model")  # another way to ask for the same


def claim(out: Path, record: dict[str, Any]) -> None:
    """Make the folder and write images.json, or find that it is there with the same record, and go on.

    Raises a UserError where the folder holds images of another request, or something else.
    """
    path = out / RECORD
    if path.is_file():
        _refuse_another(out, _read(path), record)
        return
    if out.exists() and (not out.is_dir() or any(not file.name.endswith(".tmp") for file in out.iterdir())):
        raise UserError(f"--out: {out}: is there already, without {RECORD}; name a folder that is not, or an empty one")
    out.mkdir(parents=True, exist_ok=True)
    publish(path, (json.dumps(record, indent=1) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return content
    except ValueError:
        pass
    raise UserError(f"{path}: is damaged; remove its folder, or name another with --out")


def _refuse_another(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise a UserError where a folder was made by another request."""
    compared = [{name: value for name, value in r.items() if name not in NOT_COMPARED} for r in (old, new)]
    different = changes(*compared)
    if different:
        listed = "; ".join(map(str, different))
        raise UserError(f"--out: {out}: holds images of another command ({listed}); name another folder, or remove it")
