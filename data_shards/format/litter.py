"""Names of what systems leave in folders and archives and nobody put there as data: hidden entries and litter."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

Litter = Literal["hidden", "of the system"]

# Left by file servers (Synology, QNAP, NetApp, AFP), by Windows, by macOS and by file systems; in lower case.
_NAMES = frozenset(
    {
        "@eadir", "@recently-snapshot", "@recycle", "@tmp", "#recycle", "#snapshot", "~snapshot",
        "network trash folder", "temporary items", "__macosx", "icon\r",
        "$recycle.bin", "system volume information", "found.000",
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "lost+found",
    }
)  # fmt: skip
_ENDINGS = ("@synoeastream", "@synoresource")  # of files that Synology keeps beside others


def litter(name: str) -> Litter | None:
    """Return why a file or folder of this name is no part of a data set; None for one that may be.

    Hidden are names that begin with a dot (".ipynb_checkpoints", and "._a.png", which macOS leaves beside a.png).
    """
    if name.startswith(".") and name not in (".", ".."):
        return "hidden"
    lower = name.lower()
    return "of the system" if lower in _NAMES or lower.endswith(_ENDINGS) else None


def litter_on_path(path: str) -> Litter | None:
    """Return the same of a path in an archive, by its first part that is litter."""
    return next(filter(None, map(litter, PurePosixPath(path).parts)), None)
