"""Which checkpoints stay, and how the others are deleted.

The newest stay, one of every so many kimg, the one that `best` points to, and those that an evaluation still needs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.steps import schedule

from . import evaluation_holds, published

SKIPPED = ".skipped"


@dataclass(frozen=True)
class Retention:
    """The rule. last: how many of the newest stay; every_kimg: one of each such stretch after the first, or None."""

    last: int
    every_kimg: float | None = None

    def kept(self, clocks: Sequence[int], best: int | None) -> set[int]:
        """Return which of the valid steps stay. clocks: their images seen; best: that of the step named by `best`."""
        kept = set(sorted(clocks)[-self.last :])
        if best is not None and best in clocks:
            kept.add(best)
        if self.every_kimg is not None:
            stretch = schedule.interval(self.every_kimg)
            oldest: dict[int, int] = {}
            for clock in sorted(clocks):  # the oldest step of a stretch stays the oldest when later ones come
                oldest.setdefault(clock // stretch, clock)
            kept |= {clock for index, clock in oldest.items() if index > 0}
        return kept


def delete_unneeded(run: Path, retention: Retention) -> None:
    """Delete the valid steps that the rule does not keep and that no evaluation waits for."""
    valid = {published.clock_of(path): path for path in published.steps(run) if published.problem(path) is None}
    kept = retention.kept(list(valid), published.pointed(run, "best"))
    for clock in valid.keys() - kept:
        if valid[clock].name not in evaluation_holds.waiting(run):
            delete(valid[clock])


def delete(step: Path) -> None:
    """Delete a step. It is renamed first: a kill during the deletion leaves no incomplete step under its name."""
    trash = step.with_name(step.name + ".trash")
    os.rename(step, trash)
    shutil.rmtree(trash, ignore_errors=True)


def set_newer_aside(run: Path, step: Path) -> None:
    """Rename steps newer than this one to step-N.skipped: training went back past them."""
    for path in published.steps(run):
        if path.name > step.name:
            os.rename(path, free_name(path))


def free_name(path: Path) -> Path:
    """Return the name under which a file or folder of a run is set aside; a number follows where there is one."""
    names = [path.name + SKIPPED, *(f"{path.name}{SKIPPED}{number}" for number in range(2, 1000))]
    return next(path.with_name(name) for name in names if not path.with_name(name).exists())


def sweep(run: Path) -> None:
    """Remove what killed saves and deletions left in the folder of checkpoints."""
    for path in published.folder(run).glob(published.STEP + "*"):
        if path.suffix not in (".tmp", ".trash"):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
