"""Decide whether a job that has trained is done, starts again or has failed. RUN/attempts.json keeps earlier ends.

The decision also goes to RUN/nodes/JOB-RESTARTS/decision, for a container may lose the exit code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common.atomic_writes import publish
from common.cli import EXIT_FAULT, EXIT_OK, EXIT_RESUME, EXIT_USER
from trainer.checkpoints import published

from .exit_file import attempt_folder, read_exit

FILE = "attempts.json"
DECISION = "decision"  # file in the attempt's folder: the exit code of `python -m trainer settle`, for slurm/lib.sh
PATIENCE = 3  # attempts without progress after which a job has failed
START_AGAIN = 100  # exit code of `python -m trainer settle`: none that training ends with


@dataclass(frozen=True)
class Attempt:
    """How one start of a job ended.

    code: of its exit.json, None where it was killed; images_seen: of the newest checkpoint at that time.
    """

    job: str
    restarts: int
    code: int | None
    reason: str
    images_seen: int


@dataclass(frozen=True)
class Decision:
    """What the job does now. again: it starts again; code: the exit code that it ends with otherwise."""

    again: bool
    code: int
    reason: str

    @property
    def exit_code(self) -> int:
        """What `python -m trainer settle` exits with: START_AGAIN, or the code that the job ends with."""
        return START_AGAIN if self.again else self.code

    def __str__(self) -> str:
        if self.again:
            return f"requeue: {self.reason}"
        return "done" if self.code == EXIT_OK else f"fails with code {self.code}: {self.reason}"


def decide(attempts: Sequence[Attempt], start: int = 0) -> Decision:
    """Decide from the attempts of one job, of which the last one just ended.

    start: images that the run had seen before the job.
    """
    last = attempts[-1]
    if last.code == EXIT_OK:
        return Decision(False, EXIT_OK, last.reason)
    if last.code == EXIT_USER:  # wrong settings, a full disk, a loss that is not finite: another start changes nothing
        return Decision(False, EXIT_USER, last.reason)
    before = attempts[-PATIENCE - 1].images_seen if len(attempts) > PATIENCE else start
    stuck = len(attempts) >= PATIENCE and last.images_seen <= before
    if stuck:
        reason = f"{PATIENCE} attempts in a row got no further than {before} images ({last.reason})"
        return Decision(False, last.code or EXIT_FAULT, reason)
    return Decision(True, EXIT_RESUME, last.reason)


def record_and_decide(run: Path, job: str, restarts: int) -> Decision:
    """Add this attempt to RUN/attempts.json, decide, and write the decision into the attempt's folder.

    Its end is read from the attempt's own exit.json: the one of RUN may be that of another job or start.
    """
    folder = attempt_folder(run, job, restarts)
    code, reason = _end(folder)
    newest = published.newest(run)
    images_seen = published.clock_of(newest) if newest else 0
    attempts = [*_earlier(run / FILE), Attempt(job, restarts, code, reason, images_seen)]
    publish(run / FILE, (json.dumps([asdict(a) for a in attempts], indent=1) + "\n").encode())
    first = next(i for i, attempt in enumerate(attempts) if attempt.job == job)
    before = attempts[first - 1].images_seen if first else 0
    decision = decide([attempt for attempt in attempts if attempt.job == job], before)
    folder.mkdir(parents=True, exist_ok=True)  # slurm/node.sh makes it, where a node got so far
    publish(folder / DECISION, f"{decision.exit_code}\n".encode())
    return decision


def _end(folder: Path) -> tuple[int | None, str]:
    """Return exit code and reason of an attempt."""
    end = read_exit(folder)
    if end is None:
        return None, "it never started to train: see RUN/nodes"
    code, reason = end
    return code, "it was killed" if code is None else reason


def _earlier(path: Path) -> list[Attempt]:
    """Read the attempts so far; [] where there is no readable file."""
    try:
        return [Attempt(**fields) for fields in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError):
        return []
