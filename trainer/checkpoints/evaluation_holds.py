"""Checkpoints that retention leaves alone until their evaluation is done: files in RUN/evaluation/held."""

from __future__ import annotations

import re
from pathlib import Path

from common.json_lines import read_lines

MOST = 3  # that wait; more are not held
LOST_AFTER = 3  # evaluations of later checkpoints: a job that they passed is not coming


def folder(run: Path) -> Path:
    return run / "evaluation" / "held"


def waiting(run: Path) -> list[str]:
    """Names of the steps that are held, the oldest first."""
    return sorted(path.name for path in folder(run).glob("step-*"))


def hold(run: Path, step: str) -> bool:
    """Hold a step; False where as many as may be wait already."""
    sweep(run)
    if step not in waiting(run) and len(waiting(run)) >= MOST:
        return False
    folder(run).mkdir(parents=True, exist_ok=True)
    (folder(run) / step).touch()
    return True


def release(run: Path, step: str) -> None:
    """Let go of a step, held or not."""
    if re.fullmatch(r"step-\d{12}", step):  # of what a user typed, nothing else
        (folder(run) / step).unlink(missing_ok=True)


def sweep(run: Path) -> None:
    """Let go of steps whose jobs were lost."""
    done = {str(record.get("step")) for record in read_lines(run / "evaluation" / "fid.jsonl")}
    for step in waiting(run):
        if sum(other > step for other in done) >= LOST_AFTER:
            release(run, step)
