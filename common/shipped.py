"""Files that come with the program: configs/, slurm/ and pretrained/ of the source, in a wheel trainer/shipped/."""

from __future__ import annotations

from pathlib import Path

_PARENT = Path(__file__).parents[1]
ROOT = _PARENT if (_PARENT / "pyproject.toml").is_file() else _PARENT / "trainer" / "shipped"


def found(path: Path) -> Path:
    """Return a path as it is, or where there is no such one, the file or folder of that name that was shipped, if any.

    So pretrained/NAME means the same in every folder.
    """
    if path.exists() or path.is_absolute() or not path.parts or path.parts[0] not in ("configs", "slurm", "pretrained"):
        return path
    shipped = ROOT / path
    return shipped if shipped.exists() else path
