"""python -m trainer shipped [NAME]: what comes with the program, and where it is."""

from __future__ import annotations

from pathlib import Path

from common import shipped
from common.errors import UserError


def print_shipped(name: str | None) -> None:
    """Print the path of a shipped file or folder, or without a name all names. Raises a UserError for another name."""
    if name is None:
        print("\n".join(shipped.names()))
        return
    path = Path(name)
    inside = path.parts[:1] in [(folder,) for folder in shipped.FOLDERS] and ".." not in path.parts
    place = shipped.ROOT / path if inside else shipped.config(path)
    if not place.is_relative_to(shipped.ROOT) or not place.exists():
        raise UserError(f"{name}: nothing of that name is shipped; {shipped.suggestion(name)}")
    print(place)
