"""Which jobs start again: by hand, and from the files of a run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.training import VAE, finish, overrides, train
from trainer.jobs.exit_file import attempt_folder
from trainer.jobs.requeue import START_AGAIN, Attempt, Decision, decide

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
    assert str(decide(attempts)).startswith(verdict)


def test_the_exit_code_tells_a_job_that_starts_again_from_one_that_fails() -> None:
    """A job that is preempted again and again without progress fails with 75, which is no order to start again."""
    assert Decision(True, 75, "because").exit_code == START_AGAIN
    assert [Decision(False, code, "because").exit_code for code in (0, 1, 2, 75)] == [0, 1, 2, 75]


def test_what_the_run_had_seen_before_the_job_is_no_progress() -> None:
    attempts = [Attempt("7", i, None, "because", 100) for i in range(3)]
    assert str(decide(attempts[:2], 100)).startswith("requeue")
    assert str(decide(attempts, 100)).startswith(
        "fails with code 1: 3 attempts in a row got no further than 100 images"
    )
    assert str(decide(attempts, 90)).startswith("requeue")


def settle(run: Path, folder: Path, job: str, restarts: int) -> str:
    """Return what the command prints. Its exit code and the file that it leaves must say the same."""
    done = processes.command("trainer", ["settle", run, "--job", job, "--restarts", restarts], folder)
    code, printed = done.wait(), done.out.strip()
    assert (attempt_folder(run, job, restarts) / "decision").read_text() == f"{code}\n"
    if printed.startswith("requeue: "):
        assert code == START_AGAIN
    else:
        assert printed == "done" if code == 0 else printed.startswith(f"fails with code {code}: ")
    return printed


def attempt(run: Path, job: str, restarts: int) -> tuple[Path, dict[str, str]]:
    """The folder that node.sh makes, and what Slurm puts in the environment."""
    folder = attempt_folder(run, job, restarts)
    folder.mkdir(parents=True)
    return folder, {"SLURM_JOB_ID": job, "SLURM_RESTART_COUNT": str(restarts)}


def test_the_files_of_an_attempt_decide(sprites: Path, tmp_path: Path) -> None:
    run, argv = tmp_path / "run", ["vae", VAE]

    def trained(restarts: int, code: int, **more: object) -> str:
        env = attempt(run, "7", restarts)[1]
        finish(processes.command("trainer", [*argv, *overrides(sprites, run, 5, **more)], tmp_path, env), code)
        return settle(run, tmp_path, "7", restarts)

    run.mkdir()
    never = "requeue: it never started to train: see RUN/nodes"
    assert settle(run, tmp_path, "7", 0) == never
    assert trained(1, 0) == "done"
    assert settle(run, tmp_path, "8", 0) == never, "another job's end, in RUN/exit.json, is not this one's"
    assert trained(2, 2, seed=9).startswith("fails with code 2: ")
    assert settle(run, tmp_path, "7", 3) == never, "nor is that of the start before"
    folder, _ = attempt(run, "7", 4)
    (folder / "exit.json").write_text(json.dumps({"code": None, "reason": "running"}))
    assert settle(run, tmp_path, "7", 4).startswith("fails with code 1: 3 attempts in a row got no further than 80")
    (folder / "exit.json").write_text(json.dumps({"code": None, "reason": "running"}))
    (attempt(run, "9", 0)[0] / "exit.json").write_text(json.dumps({"code": None, "reason": "running"}))
    assert settle(run, tmp_path, "9", 0) == "requeue: it was killed"
    attempts = json.loads((run / "attempts.json").read_text())
    assert [a["images_seen"] for a in attempts] == [0, 80, 80, 80, 80, 80, 80]


def test_a_job_that_another_keeps_out_has_the_reason_as_its_own_end(sprites: Path, tmp_path: Path) -> None:
    """And not that of the other, which still runs."""
    run = tmp_path / "run"
    first = train("vae", sprites, run, 4000)
    while not (run / "stats.jsonl").exists():
        time.sleep(0.01)
    env = attempt(run, "8", 0)[1]
    finish(processes.command("trainer", ["vae", VAE, *overrides(sprites, run, 4000)], tmp_path, env), 2)
    assert settle(run, tmp_path, "8", 0).startswith(f"fails with code 2: {run}: is in use by process {first.pid}")
    first.kill()
    first.wait()
