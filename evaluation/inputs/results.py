"""Where the results of a run lie: in RUN/evaluation, or in the folder that --out names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError

FOLDER = "evaluation"


@dataclass(frozen=True)
class Results:
    """The results of a run or an export. out: where new ones go in place of RUN/evaluation, or None."""

    run: Path
    out: Path | None = None

    @property
    def folder(self) -> Path:
        """Where new results are written."""
        return self.out or self.run / FOLDER

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where results are read, those of the run first."""
        return (self.run / FOLDER,) if self.out is None else (self.run / FOLDER, self.out)

    def refuse_unwritable(self) -> None:
        """Raise a UserError where nothing can be written, before hours of measuring."""
        if not can_write(self.folder):
            raise UserError(f"{self.folder}: cannot be written; name a folder for the results with --out")


def can_write(folder: Path) -> bool:
    """Return whether files can be written in a folder, which may have to be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
