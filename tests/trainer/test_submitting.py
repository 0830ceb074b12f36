"""Evaluation jobs of a run: each moment once, whatever the scheduler does, and training never waits."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from data_shards.errors import UserError
from trainer import submitting
from trainer.config_parts import EvaluationConfig
from trainer.submitting import Submitter

from .helpers import finish, train
from .test_bad_input import refused
from .test_snapshots import MANY


def command(folder: Path, body: str) -> str:
    """A stand-in for sbatch."""
    script = folder / "submit.sh"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return f"{script} eval_fid.sh"


def snapshot(run: Path, images_seen: int) -> None:
    (run / "ema").mkdir(parents=True, exist_ok=True)
    for width in (0.05, 0.1):
        (run / "ema" / f"{images_seen:012d}-sigma_rel_{width}.safetensors").touch()


def submitter(run: Path, command: str) -> Submitter:
    return Submitter(run, EvaluationConfig(submit=True, command=command))


def settled(one: Submitter) -> None:
    for process in one.waiting.values():
        process.wait(20)
    one.look()


def test_a_run_submits_each_moment_once_over_resumes(sprites: Path, vae: Path, tmp_path: Path) -> None:
    told, run = tmp_path / "told", tmp_path / "run"
    evaluation = f"{{submit: true, command: {command(tmp_path, f'echo $@ >> {told}')}}}"
    for steps in (5, 8, 12):  # snapshots at 64, 128 and 192 images, and of each end at 80
        finish(train("gan", sprites, run, steps, vae=vae, evaluation=evaluation, **MANY))
    moments = sorted({file.name[:12] for file in (run / "ema").iterdir()})
    words = [f"eval_fid.sh {run} --ema {run}/ema/{moment}-sigma_rel_0.05.safetensors" for moment in moments]
    assert sorted(told.read_text().splitlines()) == words
    assert {int(moment) for moment in moments} >= {64, 128, 192}
    assert len(json.loads((run / "evaluation" / "submitted.json").read_bytes())) == len(moments)


def test_a_scheduler_that_hangs_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot(tmp_path, 64)
    one = submitter(tmp_path, command(tmp_path, "exec sleep 30"))
    start = time.monotonic()
    one.submit()
    one.look()
    monkeypatch.setattr(submitting, "PATIENCE", 0.1)
    one.finish()
    assert time.monotonic() - start < 10
    assert "000000000064-sigma_rel_0.05.safetensors has not answered yet" in caplog.text
    for process in one.waiting.values():
        process.kill()


def test_a_refusal_is_told_and_a_resume_tries_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    snapshot(tmp_path, 64)
    one = submitter(tmp_path, command(tmp_path, "echo no such partition >&2; exit 1"))
    one.submit()
    settled(one)
    one.submit()
    assert not one.waiting, "one try a start"
    assert "ended with 1: see" in caplog.text
    assert "no such partition" in (tmp_path / "evaluation" / "submit.log").read_text()
    again = submitter(tmp_path, command(tmp_path, "exit 0"))
    again.submit()
    settled(again)
    assert not submitter(tmp_path, command(tmp_path, "exit 0")).submit()
    assert json.loads((tmp_path / "evaluation" / "submitted.json").read_bytes()) == again.done


def test_a_program_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluation.command: 'nosuchbatch x.sh': no such program"):
        submitter(tmp_path, "nosuchbatch x.sh")


def test_without_snapshots_there_is_nothing_to_submit(sprites: Path, vae: Path, tmp_path: Path) -> None:
    running = train("gan", sprites, tmp_path / "run", 1, vae=vae, evaluation="{submit: true}")
    refused(running, "evaluation.submit: true, but nothing is kept for it; set ema.snapshot_kimg")
