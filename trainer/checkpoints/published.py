"""The published checkpoints of a run: where they are, what they are called, and whether they are complete.

A checkpoint is a folder RUN/checkpoints/step-N for N images seen, with a manifest. It is called a step.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from trainer.config import older_versions

FORMAT = 1
MANIFEST = "manifest.json"
STEP = "step-"


def folder(run: Path) -> Path:
    """Return the folder of a run's checkpoints."""
    return run / "checkpoints"


def name_of(images_seen: int) -> str:
    """Return the name of the step at a clock. Names sort in the order of training, whatever the batch size was."""
    return f"{STEP}{images_seen:012d}"


def clock_of(step: Path) -> int:
    """Return the images seen of a published step."""
    return int(step.name.removeprefix(STEP))


def is_step(name: str) -> bool:
    """Return whether a folder of this name is a published step."""
    return re.fullmatch(STEP + r"\d{12}", name) is not None


def full_name(step: str) -> str:
    """Return the name of a step that a user gave by its name or by images seen."""
    return name_of(int(step)) if step.isdecimal() else step


def steps(run: Path) -> list[Path]:
    """Return the published steps, newest first, whether valid or not."""
    return sorted(folder(run).glob(STEP + "[0-9]" * 12), reverse=True)


def newest(run: Path) -> Path | None:
    """Return the newest valid step, or None."""
    return next((path for path in steps(run) if problem(path) is None), None)


def pointed(run: Path, pointer: str) -> int | None:
    """Return the clock of the step that the file `latest` or `best` names, or None without such a file.

    The step itself may be missing.
    """
    try:
        name = (folder(run) / pointer).read_text().strip()
        return int(name.removeprefix(STEP))
    except (OSError, ValueError):
        return None


def read_manifest(step: Path) -> dict[str, Any]:
    """Read a usable step's manifest. The settings in it get the names of today."""
    manifest = _stored_manifest(step)
    return manifest | {"config": older_versions.today(manifest.get("config", {}))}


def _stored_manifest(step: Path) -> dict[str, Any]:
    """Read a step's manifest as it stands there, of whatever format."""
    manifest: dict[str, Any] = json.loads((step / MANIFEST).read_bytes())
    return manifest


def problem(step: Path) -> str | None:
    """Say why a step cannot be used, as in "step-... lacks FILE"; None where all its files have their sizes."""
    if not step.is_dir():
        return "is missing"
    try:
        manifest = _stored_manifest(step)
        if manifest["format"] != FORMAT:
            return f"has format {manifest['format']}, this program reads {FORMAT}"
        sizes = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"has no readable {MANIFEST} ({error})"
    for name, size in sizes.items():
        path = step / name
        if not path.is_file():
            return f"lacks {name}"
        if path.stat().st_size != size:
            return f"has {name} with {path.stat().st_size} bytes instead of {size}"
    return None
