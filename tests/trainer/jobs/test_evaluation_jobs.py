"""Evaluation jobs of a run: each checkpoint once, whatever the scheduler does, and training never waits."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.training import BATCH, finish, train
from trainer.checkpoints import evaluation_holds, go_back, published
from trainer.config.sections import EvaluationConfig
from trainer.jobs import evaluation_jobs
from trainer.jobs.evaluation_jobs import Submitter, command_problem


def command(folder: Path, body: str) -> str:
    """A stand-in for sbatch."""
    script = folder / "submit.sh"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return f"{script} eval_fid.sh"


def saved(run: Path, images_seen: int) -> str:
    """A whole checkpoint, as far as retention looks."""
    step = published.folder(run) / published.name_of(images_seen)
    step.mkdir(parents=True)
    (step / "manifest.json").write_text(json.dumps({"format": published.FORMAT, "files": {}}))
    return step.name


def submitter(run: Path, command: str) -> Submitter:
    return Submitter(run, EvaluationConfig(submit=True, command=command))


def wait_and_look(one: Submitter) -> None:
    for process in one.waiting.values():
        process.wait(20)
    one.look()


def test_a_run_submits_each_checkpoint_once_over_resumes(sprites: Path, vae: Path, tmp_path: Path) -> None:
    calls, run = tmp_path / "calls", tmp_path / "run"
    evaluation = f"{{submit: true, command: {command(tmp_path, f'echo $@ >> {calls}')}}}"
    for steps in (2, 3, 5):
        finish(train("gan", sprites, run, steps, vae=vae, evaluation=evaluation, schedule__save_kimg=0.016))
    names = [published.name_of(BATCH * step) for step in (1, 2, 3, 4, 5)]
    assert sorted(calls.read_text().splitlines()) == [f"eval_fid.sh {run} --step {name} --release" for name in names]
    assert json.loads((run / "evaluation" / "submitted.json").read_bytes()) == names
    assert evaluation_holds.waiting(run) == names[:3]
    there = sorted(path.name for path in published.steps(run))
    assert there == names, "three are held and the last two are kept anyway"


def test_a_complete_run_submits_what_no_scheduler_took(sprites: Path, vae: Path, tmp_path: Path) -> None:
    calls, run = tmp_path / "calls", tmp_path / "run"
    for body, steps in (("exit 1", 1), (f"echo $@ >> {calls}", 1), (f"echo $@ >> {calls}", 1)):
        evaluation = f"{{submit: true, command: {command(tmp_path, body)}}}"
        running = finish(train("gan", sprites, run, steps, vae=vae, evaluation=evaluation))
    assert "is complete" in running.err
    assert calls.read_text() == f"eval_fid.sh {run} --step {published.name_of(BATCH)} --release\n", "once"


def test_held_checkpoints_outlive_retention_until_they_are_evaluated(
    sprites: Path, vae: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path
    names = [saved(run, images) for images in (10, 20, 30, 40, 50)]
    one = submitter(run, command(run, "exit 0"))
    one.submit()
    wait_and_look(one)
    warned = [record.message for record in caplog.records]
    assert warned == [
        f"warning: 3 checkpoints wait for their evaluation ({', '.join(names[:3])}): later ones are not held for theirs"
    ], "once"
    assert evaluation_holds.waiting(run) == names[:3]
    evaluation_holds.release(run, names[0])
    assert evaluation_holds.hold(run, saved(run, 60))
    assert evaluation_holds.waiting(run) == [*names[1:3], "step-000000000060"]


def test_a_held_checkpoint_whose_job_was_lost_is_let_go(tmp_path: Path) -> None:
    lost, done = saved(tmp_path, 10), [saved(tmp_path, images) for images in (20, 30, 40)]
    assert evaluation_holds.hold(tmp_path, lost)
    record = tmp_path / "evaluation" / "fid.jsonl"
    for n in (2, 3):
        record.write_text("".join(json.dumps({"step": name}) + "\n" for name in done[:n]))
        evaluation_holds.sweep(tmp_path)
        assert evaluation_holds.waiting(tmp_path) == ([lost] if n < 3 else [])


def test_a_job_does_not_take_the_group_of_the_run_for_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun 2.14 and accelerate set; sbatch hands on the environment that it is called in."""
    launchers = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK"]
    launchers += ["ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"]
    launchers += ["TORCHELASTIC_RESTART_COUNT", "ACCELERATE_MIXED_PRECISION", "PET_SHUTDOWN_TIMEOUT"]
    launchers += ["SLURM_STEP_NUM_TASKS", "SLURM_STEPID", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"]  # of srun and mpirun
    for name in (*launchers, "SITE_ENV", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    saved(tmp_path, 64)
    one = submitter(tmp_path, command(tmp_path, f"env > {tmp_path}/environment"))
    one.submit()
    wait_and_look(one)
    names = {line.partition("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    assert not names & set(launchers)
    assert names >= {"SITE_ENV", "OMP_NUM_THREADS", "PATH"}


def test_a_scheduler_that_hangs_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, 64)
    one = submitter(tmp_path, command(tmp_path, "exec sleep 30"))
    start = time.monotonic()
    one.submit()
    one.look()
    monkeypatch.setattr(evaluation_jobs, "PATIENCE", 0.1)
    one.finish()
    assert time.monotonic() - start < 10
    assert "--step step-000000000064 --release has not answered yet" in caplog.text
    for process in one.waiting.values():
        process.kill()


def test_a_refusal_is_told_and_a_resume_tries_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved(tmp_path, 64)
    one = submitter(tmp_path, command(tmp_path, "echo no such partition >&2; exit 1"))
    one.submit()
    wait_and_look(one)
    one.submit()
    assert not one.waiting, "one try a start"
    assert "ended with 1: see" in caplog.text
    assert "no such partition" in (tmp_path / "evaluation" / "submit.log").read_text()
    again = submitter(tmp_path, command(tmp_path, "exit 0"))
    again.submit()
    wait_and_look(again)
    third = submitter(tmp_path, command(tmp_path, "exit 0"))
    third.submit()
    assert not third.waiting
    assert json.loads((tmp_path / "evaluation" / "submitted.json").read_bytes()) == again.done


def test_a_command_may_have_variables_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 64)
    command(tmp_path, f"echo $@ >> {tmp_path}/calls")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PARTITION", "short one")
    wanted = EvaluationConfig(submit=True, command="~/submit.sh --partition=$PARTITION ./x.sh")
    assert command_problem(wanted) is None
    one = Submitter(tmp_path, wanted)
    one.submit()
    wait_and_look(one)
    argv = f"--partition=short one ./x.sh {tmp_path} --step step-000000000064 --release"
    assert (tmp_path / "calls").read_text() == f"{argv}\n"
    monkeypatch.delenv("PARTITION")
    assert "variable PARTITION is not set; export it" in (command_problem(wanted) or "")
    assert "No closing quotation" in (command_problem(EvaluationConfig(command="sbatch 'x.sh")) or "")


def test_a_program_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    def problem(command: str) -> str | None:
        return command_problem(EvaluationConfig(submit=True, command=command))

    assert (problem("nosuchbatch x.sh") or "").startswith("evaluation.command: 'nosuchbatch x.sh': no such program")
    assert "no such program" in (problem("") or "")
    assert problem(command(tmp_path, "exit 0")) is None


def test_a_checkpoint_of_a_name_that_was_set_aside_is_submitted_again(tmp_path: Path) -> None:
    """As after --from-step or a rewind: it is another one."""
    calls = tmp_path / "calls"
    submit = command(tmp_path, f"echo $@ >> {calls}")
    for images in (10, 20):
        saved(tmp_path, images)
    for _ in range(2):
        one = submitter(tmp_path, submit)
        one.submit()
        wait_and_look(one)
    assert len(calls.read_text().splitlines()) == 2
    go_back.set_later_aside(tmp_path, 10)
    one = submitter(tmp_path, submit)
    again = saved(tmp_path, 20)
    one.submit()
    wait_and_look(one)
    assert calls.read_text().splitlines()[2:] == [f"eval_fid.sh {tmp_path} --step {again} --release"]
