"""`settle` of slurm/lib.sh: what a job script does with the answer of `python -m trainer settle`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from trainer.jobs.requeue import START_AGAIN


def stub(folder: Path, name: str, body: str) -> None:
    """A program that stands in for another."""
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)


def settle(folder: Path, code: int, state: str = "RUNNING", setup: str = "true") -> tuple[int, str]:
    """The job script's exit code, and how it called scontrol, where `trainer settle` exits with `code`."""
    stub(folder, "python", f'echo "requeue: printed for people"; echo "$@" > {folder}/asked; exit {code}')
    stub(folder, "squeue", f"echo {state}")
    stub(folder, "scontrol", f'echo "$@" > {folder}/scontrol-called')
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}
    script = ". slurm/lib.sh && settle runs/x"
    done = subprocess.run(["bash", "-c", script], env=env | {"SETUP": setup}, capture_output=True, text=True)
    assert (folder / "asked").read_text() == "-m trainer settle runs/x --job 7 --restarts 2\n"
    called = folder / "scontrol-called"
    return done.returncode, called.read_text().strip() if called.exists() else ""


@pytest.mark.parametrize("code", [0, 1, 2, 75, 137])
def test_a_job_that_does_not_start_again_has_its_own_exit_code(code: int, tmp_path: Path) -> None:
    """Whatever is printed: a container or a site's set-up may print the same words."""
    assert settle(tmp_path, code, setup="echo requeue: a module was loaded") == (code, "")


def test_a_job_that_starts_again_is_requeued(tmp_path: Path) -> None:
    assert settle(tmp_path, START_AGAIN) == (75, "requeue 7")


def test_a_job_that_was_cancelled_is_not(tmp_path: Path) -> None:
    assert settle(tmp_path, START_AGAIN, state="CANCELLED") == (75, "")
