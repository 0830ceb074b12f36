"""Which jobs start again: by hand, and from the files of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import processes
from trainer.settling import Attempt, judge

from .helpers import finish, train

ENDS: list[tuple[str, list[tuple[int | None, int]], str]] = [  # (code, images seen) of each attempt
    ("complete", [(0, 100)], "done"),
    ("preempted", [(75, 100)], "requeue"),
    ("killed at the start of a run", [(None, 0)], "requeue"),
    ("killed twice without a checkpoint", [(None, 0), (None, 0)], "requeue"),
    ("killed three times without a checkpoint", [(None, 0)] * 3, "fails with code 1"),
    ("a fault, three times", [(1, 0)] * 3, "fails with code 1"),
    ("a fault with progress before it", [(75, 100), (1, 100), (1, 100)], "requeue"),
    ("three faults after progress", [(75, 100), (1, 100), (1, 100), (1, 100)], "fails with code 1"),
    ("faults with progress in between", [(75, 100), (1, 100), (1, 100), (1, 110)], "requeue"),
    ("preempted again and again before a save", [(75, 100), (75, 100), (75, 100), (75, 100)], "fails with code 75"),
    ("what the user can mend", [(2, 0)], "fails with code 2"),
    ("a loss that is not finite, late", [(75, 100), (2, 200)], "fails with code 2"),
]


@pytest.mark.parametrize(("what", "ends", "verdict"), ENDS, ids=[what for what, _, _ in ENDS])
def test_who_starts_again(what: str, ends: list[tuple[int | None, int]], verdict: str) -> None:
    attempts = [Attempt("7", i, code, "because", seen) for i, (code, seen) in enumerate(ends)]
    assert str(judge(attempts)).startswith(verdict)


def settle(run: Path, folder: Path, job: str = "7") -> str:
    return finish(processes.command("trainer", ["settle", run, "--job", job, "--restarts", "0"], folder)).out.strip()


def test_a_runs_own_files_decide(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert settle(run, tmp_path) == "requeue: it never started to train: see RUN/nodes"
    finish(train("vae", sprites, run, 5))
    assert settle(run, tmp_path) == "done"
    finish(train("vae", sprites, run, 5, seed=9), 2)
    assert settle(run, tmp_path).startswith("fails with code 2: ")
    exit_file = run / "exit.json"
    exit_file.write_text(json.dumps(json.loads(exit_file.read_text()) | {"code": None, "reason": "running"}))
    assert settle(run, tmp_path) == "requeue: it was killed"
    assert settle(run, tmp_path, job="8") == "requeue: it was killed"
    assert settle(run, tmp_path).startswith("fails with code 1: 3 attempts in a row got no further than 80 images")
    attempts = json.loads((run / "attempts.json").read_text())
    assert [a["images_seen"] for a in attempts] == [0, 80, 80, 80, 80, 80]
