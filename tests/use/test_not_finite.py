"""A loss or a weight that is not finite: nothing of it is published, and there is a way on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.support import processes
from tests.support.training import VAE, differences, finish, newest, overrides, train
from trainer.checkpoints import finite, go_back, published
from trainer.steps.vae_step import VaeStep

KEEP = {"schedule__keep_last": 10}


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir() if path.is_dir())


def step(iteration: int) -> str:
    return published.name_of(16 * iteration)


def poisoned(argv: list[str], at: int, where: str, checked: bool = True) -> None:
    """Train; at an iteration a weight, or a value of the optimizer, becomes NaN, while every loss so far is finite."""
    count, train_once = [0], VaeStep.__call__

    def wrapped(self: VaeStep, *args: Any) -> Any:
        terms = train_once(self, *args)
        count[0] += 1
        if count[0] == at:
            weight = self.engine.trained[0]
            value = weight.data if where == "weight" else self.engine.optimizer.state[weight]["exp_avg"]
            value.view(-1)[3] = float("nan")
        return terms

    VaeStep.__call__ = wrapped  # type: ignore[method-assign]
    if not checked:  # an older version of this program
        finite.not_finite = lambda tensors: []
    processes.module("trainer", argv)


@pytest.mark.parametrize(("where", "named"), [("weight", "vae."), ("optimizer", "optimizer.vae.exp_avg.")])
def test_a_checkpoint_that_is_not_finite_is_not_published(
    where: str, named: str, sprites: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    argv = ["vae", VAE, *overrides(sprites, run, 30, **KEEP)]
    running = finish(processes.start(poisoned, (argv, 15, where), tmp_path / "logs"), 2)
    assert f"error: {named}" in running.err
    assert "is not finite: nothing was published" in running.err
    assert f"{step(10)} is the last good checkpoint" in running.err
    assert f"--from-step STEP (there are {step(5)})" in running.err
    assert "Traceback" not in running.err
    assert names(run) == [step(5), step(10)]


def test_a_checkpoint_of_an_older_version_that_is_not_finite_is_passed_over(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    argv = ["vae", VAE, *overrides(sprites, run, 10, **KEEP)]
    finish(processes.start(poisoned, (argv, 10, "weight", False), tmp_path / "logs"))
    listing = finish(processes.command("trainer", ["checkpoints", run], tmp_path / "logs"))
    assert "not usable: it holds values that are not finite (vae." in " ".join(listing.out.split())
    running = finish(train("vae", sprites, run, 10, **KEEP))
    assert f"skipped checkpoint {step(10)}: it holds values that are not finite" in running.err
    finish(train("vae", sprites, tmp_path / "good", 10, **KEEP))
    assert not differences(newest(run), newest(tmp_path / "good"))


def test_an_earlier_checkpoint_can_be_resumed_and_the_later_ones_stay(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 15, **KEEP))
    end = newest(run)
    argv = ["vae", VAE, *overrides(sprites, run, 15, **KEEP), "--from-step"]
    refused = finish(processes.command("trainer", [*argv, "81"], tmp_path / "logs"), 2)
    assert f"--from-step: 81 is no usable checkpoint of {run}; choose one of {step(5)}, {step(10)}" in refused.err
    dry = finish(processes.command("trainer", [*argv, "80", "--dry-run"], tmp_path / "logs"))
    assert "resumes from its checkpoint at 80 images" in dry.out
    assert names(run) == [step(5), step(10), step(15)]
    done = finish(processes.command("trainer", [*argv, "80"], tmp_path / "logs"))
    assert f"resuming {run} at 80 images" in done.err
    assert names(run) == sorted([step(5), step(10), step(15), f"{step(10)}.skipped", f"{step(15)}.skipped"])
    assert not differences(newest(run), end)
    assert "--from-step" not in json.loads((run / "exit.json").read_text())["command"]


def test_an_encoder_that_is_not_finite_is_named_before_the_first_step(sprites: Path, vae: Path, tmp_path: Path) -> None:
    finish(train("gan", sprites, tmp_path / "run", 1, vae=vae))
    tensors = load_file(tmp_path / "run" / "vae.safetensors")
    with safe_open(tmp_path / "run" / "vae.safetensors", "pt") as file:
        metadata = file.metadata()
    name = next(iter(tensors))
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, tmp_path / "bad.safetensors", metadata)
    running = finish(train("gan", sprites, tmp_path / "other", 1, vae=tmp_path / "bad.safetensors"), 2)
    assert f"vae: {tmp_path / 'bad.safetensors'}: holds values that are not finite ({name})" in running.err


def to(run: Path, target: Path | None) -> None:
    assert target is not None
    go_back.go_back(run, target)


def test_nothing_is_set_aside_where_the_start_is_refused(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 10, **KEEP))
    argv = ["vae", VAE, *overrides(sprites, run, 15, **KEEP), "seed=5", "--from-step", "80"]
    refused = finish(processes.command("trainer", argv, tmp_path / "logs"), 2)
    assert "seed: was 0, now 5" in refused.err
    assert names(run) == [step(5), step(10)]
    assert (run / "checkpoints" / "latest").read_text().strip() == step(10)


def test_measurements_and_ticks_of_the_other_way_are_no_longer_of_the_run(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 10, **KEEP))
    records = run / "evaluation" / "fid.jsonl"
    records.parent.mkdir()
    records.write_text("".join(json.dumps({"step": step(n), "fid": n}) + "\n" for n in (5, 10)))
    to(run, go_back.wanted(run, "80", {}))
    assert [json.loads(line)["fid"] for line in records.read_text().splitlines()] == [5]
    assert json.loads((records.parent / "fid.jsonl.skipped").read_text())["fid"] == 10
    kept, aside = ((run / name).read_text().splitlines() for name in ("stats.jsonl", "stats.jsonl.skipped"))
    assert (len(kept), len(aside)) == (5, 5)


def test_a_job_that_is_started_again_does_not_go_back_again(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 10, **KEEP))
    to(run, go_back.wanted(run, "80", {"SLURM_JOB_ID": "3"}))
    assert names(run) == [step(5), f"{step(10)}.skipped"]
    finish(train("vae", sprites, run, 10, **KEEP))
    assert go_back.wanted(run, step(5), {"SLURM_JOB_ID": "3", "SLURM_RESTART_COUNT": "1"}) is None
    assert names(run) == [step(5), step(10), f"{step(10)}.skipped"]
    to(run, go_back.wanted(run, "80", {"SLURM_JOB_ID": "4"}))  # another job, of somebody who wants it once more
    assert names(run) == [step(5), f"{step(10)}.skipped", f"{step(10)}.skipped2"]
