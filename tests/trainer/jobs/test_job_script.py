"""`settle` of slurm/lib.sh: what a job script does with the decision of `python -m trainer settle`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from trainer.jobs.requeue import START_AGAIN


def stub(folder: Path, name: str, body: str) -> None:
    """A program that stands in for another."""
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)


class Settled(NamedTuple):
    """The job script's exit code, how it called scontrol, and its error messages."""

    code: int
    scontrol: str
    err: str


def settle(folder: Path, code: int, decides: bool = True, state: str = "RUNNING", **site: str) -> Settled:
    """Run it where `trainer settle` exits with `code`. decides: whether that is a decision, or an error of its own."""
    decision = folder / "run" / "nodes" / "7-2" / "decision"
    decision.parent.mkdir(parents=True, exist_ok=True)
    decide = f"echo {code} > {decision}; " if decides else ""
    stub(folder, "python", f'{decide}echo "requeue: printed for people"; echo "$@" > {folder}/asked; exit {code}')
    stub(folder, "squeue", f"echo {state}")
    stub(folder, "scontrol", f'echo "$@" > {folder}/scontrol-called')
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}
    script = f"SITE_ENV=my.env; . slurm/lib.sh && settle {folder}/run"
    done = subprocess.run(["bash", "-c", script], env=env | site, capture_output=True, text=True)
    called = folder / "scontrol-called"
    return Settled(done.returncode, called.read_text().strip() if called.exists() else "", done.stderr)


@pytest.mark.parametrize("code", [0, 1, 2, 75, 137])
def test_a_job_that_does_not_start_again_has_its_own_exit_code(code: int, tmp_path: Path) -> None:
    """Whatever is printed: a container or a site's set-up may print the same words."""
    assert settle(tmp_path, code, SETUP="echo requeue: a module was loaded")[:2] == (code, "")
    assert (tmp_path / "asked").read_text() == f"-m trainer settle {tmp_path}/run --job 7 --restarts 2\n"


def test_a_job_that_starts_again_is_requeued(tmp_path: Path) -> None:
    assert settle(tmp_path, START_AGAIN)[:2] == (75, "requeue 7")


def test_a_job_that_was_cancelled_is_not(tmp_path: Path) -> None:
    assert settle(tmp_path, START_AGAIN, state="CANCELLED")[:2] == (75, "")


@pytest.mark.parametrize("code", [1, 2])
def test_where_nothing_could_be_decided_the_job_fails_with_the_error(code: int, tmp_path: Path) -> None:
    assert settle(tmp_path, code, decides=False)[:2] == (code, "")


@pytest.mark.parametrize(("code", "ending"), [(START_AGAIN, 0), (START_AGAIN, 1), (1, 0), (2, 0), (75, 1)])
def test_a_container_that_loses_exit_codes_makes_no_success_of_a_job(code: int, ending: int, tmp_path: Path) -> None:
    """Else a job that is to start again would count as done, and the next stage would start."""
    stub(tmp_path, "container", f'"$@"; exit {ending}')
    done = settle(tmp_path, code, CONTAINER="container")
    assert done[:2] == (2, "")
    assert f"error: CONTAINER: `python -m trainer settle` ended with exit code {ending}, but {tmp_path}/run" in done.err
    assert f"/decision says {code}; CONTAINER and SETUP in my.env must hand on the exit code" in done.err


@pytest.mark.parametrize("site", [{"CONTAINER": "true"}, {"SETUP": "exit 0"}])
def test_a_python_that_never_ran_is_no_success(site: dict[str, str], tmp_path: Path) -> None:
    """Not even where an earlier job of the same number was done."""
    assert settle(tmp_path, 0).code == 0
    done = settle(tmp_path, 1, **site)
    assert done[:2] == (2, "")
    assert "/decision says nothing; " in done.err
