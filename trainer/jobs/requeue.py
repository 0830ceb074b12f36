"""Whether a job that has trained is done, starts again or has failed; RUN/attempts.json remembers earlier ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.atomic_writes import publish
from common.cli import EXIT_FAULT, EXIT_OK, EXIT_RESUME, EXIT_USER
from trainer.checkpoints import checkpoint

FILE, PATIENCE = "attempts.json", 3  # attempts without progress


@dataclass(frozen=True)
class Attempt:
    """How one start ended. code: of RUN/exit.json, None after a kill; images_seen: of the newest checkpoint."""

    job: str
    restarts: int
    code: int | None
    reason: str
    images_seen: int


@dataclass(frozen=True)
class Verdict:
    """again: start the job again; code: what it leaves with otherwise."""

    again: bool
    code: int
    reason: str

    def __str__(self) -> str:
        if self.again:
            return f"requeue: {self.reason}"
        return "done" if self.code == EXIT_OK else f"fails with code {self.code}: {self.reason}"


def judge(attempts: Sequence[Attempt], start: int = 0) -> Verdict:
    """Of a job's attempts so far, the last one just ended. start: images that the run had seen before. Pure."""
    last = attempts[-1]
    if last.code == EXIT_OK:
        return Verdict(False, EXIT_OK, last.reason)
    if last.code == EXIT_USER:  # wrong settings, a full disk, a loss that is not finite: starting again mends nothing
        return Verdict(False, EXIT_USER, last.reason)
    before = attempts[-PATIENCE - 1].images_seen if len(attempts) > PATIENCE else start
    stuck = len(attempts) >= PATIENCE and last.images_seen <= before
    if stuck:
        code = last.code if last.code else EXIT_FAULT
        return Verdict(False, code, f"{PATIENCE} attempts in a row got no further than {before} images ({last.reason})")
    return Verdict(True, EXIT_RESUME, last.reason)


def settle(run: Path, job: str, restarts: int) -> Verdict:
    """Record how this attempt ended, and judge: by its own exit.json, for RUN's may be of another job or start."""
    code, reason = _exit(attempt_folder(run, job, restarts))
    last = checkpoint.newest(run)
    seen = checkpoint.clock_of(last) if last else 0
    attempts = [*_earlier(run / FILE), Attempt(job, restarts, code, reason, seen)]
    publish(run / FILE, (json.dumps([asdict(a) for a in attempts], indent=1) + "\n").encode())
    first = next(i for i, attempt in enumerate(attempts) if attempt.job == job)
    before = attempts[first - 1].images_seen if first else 0
    return judge([a for a in attempts if a.job == job], before)


def attempt_folder(run: Path, job: str, restarts: int | str) -> Path:
    """Of one start of a job, which slurm/node.sh makes."""
    return run / "nodes" / f"{job}-{restarts}"


def _exit(folder: Path) -> tuple[int | None, str]:
    try:
        found: dict[str, Any] = json.loads((folder / "exit.json").read_bytes())
        code, reason = found["code"], found["reason"]
    except (OSError, ValueError, KeyError):
        return None, "it never started to train: see RUN/nodes"
    return code, reason if code is not None else "it was killed"


def _earlier(path: Path) -> list[Attempt]:
    try:
        return [Attempt(**a) for a in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError):
        return []
