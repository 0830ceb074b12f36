"""Checkpoints that are not deleted before their evaluation has ended: an empty file for each in RUN/evaluation/held."""

from __future__ import annotations

import re
from pathlib import Path

from common.json_lines import read_lines

MOST = 3  # held at the same time; more are not held
LOST_AFTER = 3  # evaluations of later checkpoints, after which the job of an earlier one counts as lost


def folder(run: Path) -> Path:
    """Return the folder of the files that name held steps."""
    return run / "evaluation" / "held"


def waiting(run: Path) -> list[str]:
    """Return the names of the steps that are held, the oldest first."""
    return sorted(path.name for path in folder(run).glob("step-*"))


def hold(run: Path, step: str) -> bool:
    """Hold a step. Return False where MOST steps are held already."""
    sweep(run)
    if step not in waiting(run) and len(waiting(run)) >= MOST:
        return False
    folder(run).mkdir(parents=True, exist_ok=True)
    (folder(run) / step).touch()
    return True


def release(run: Path, step: str) -> None:
    """Let a step be deleted again, whether it is held or not."""
    if re.fullmatch(r"step-\d{12}", step):  # a name that a user typed may be a path to another file
        (folder(run) / step).unlink(missing_ok=True)


def sweep(run: Path) -> None:
    """Release the steps whose evaluation jobs were lost."""
    evaluated = {str(record.get("step")) for record in read_lines(run / "evaluation" / "fid.jsonl")}
    for step in waiting(run):
        if sum(other > step for other in evaluated) >= LOST_AFTER:
            release(run, step)
