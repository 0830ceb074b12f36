"""The checks before the first step that need no run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from tests.support.training import CONFIGS, GAN, overrides
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.distributed.world import World
from trainer.plan import STRATEGIES
from trainer.preflight import gan_inputs, watch_problems, weights_problem
from trainer.resume import FROM_SCRATCH


def test_weights_that_every_job_needs_are_looked_for_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "inception.pt"

    def problem(data_set: str = "celeba_hq", **more: object) -> str | None:
        values = {"data": {"path": "data"}, "schedule": {"total_kimg": 1}, "evaluation": {"submit": True}}
        return weights_problem(GanConfig.model_validate(values | {"inception": {"clean": path}} | more), data_set)

    assert "inception.pt: the weights of Inception clean are not there" in (problem() or "")
    assert problem("dsprites") is None
    assert problem(evaluation={"submit": False}) is None
    monkeypatch.setenv("EVALUATION", "--protocol legacy_pytorch")
    assert "pt_inception-2015-12-05-6726825d.pth there" in (problem("dsprites") or "")
    monkeypatch.setenv("EVALUATION", "--protocol factor-net")
    assert problem() is None
    monkeypatch.setenv("EVALUATION", f"--samples 100 --weights {tmp_path / 'other.pt'}")
    assert "other.pt: the weights of Inception clean are not there" in (problem() or "")
    monkeypatch.setenv("EVALUATION", "--reference statistics.safetensors")
    assert problem() is None
    monkeypatch.setenv("EVALUATION", "--weights")
    assert "EVALUATION: '--weights': argument --weights: expected one argument" in (problem() or "")
    monkeypatch.delenv("EVALUATION")
    path.write_bytes(b"weights")
    assert problem() is None
    digest = hashlib.sha256(b"weights").hexdigest()
    assert problem(inception={"clean": path, "clean_sha256": digest}) is None
    assert f"sha256 is {digest}" in (problem(inception={"clean": path, "clean_sha256": "0" * 64}) or "")


def test_a_watch_that_could_find_nothing_or_go_nowhere_is_refused() -> None:
    def refused(watch: str, total_kimg: int, keep_last: int = 2) -> str:
        times = f"{{total_kimg: {total_kimg}, tick_kimg: 10, save_kimg: 10, keep_last: {keep_last}}}"
        config = load_config(GanConfig, CONFIGS / "gan.yaml", [f"watch={watch}", f"schedule={times}"])
        return "\n".join(watch_problems(config))

    stop, rewind = "{action: stop}", "{action: rewind, rewinds: 2}"
    assert "watch.ticks: 3 ticks of 10 kimg are longer than the run (schedule.total_kimg: 25)" in refused(stop, 25)
    late = refused("{action: stop, ticks: 1, from_kimg: 30}", 25)
    assert "watch.from_kimg: 30, but the run ends at schedule.total_kimg: 25" in late
    message = refused(rewind, 100)
    assert "schedule.keep_last: 2 checkpoints, one every 10 kimg" in message
    assert "set schedule.keep_last=4" in message
    assert [refused("{}", 25), refused("null", 25), refused(stop, 100), refused(rewind, 100, 4)] == [""] * 4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_start_estimates_its_memory_under_every_strategy(
    strategy: str, sprites: Path, vae: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the first of two processes, which need not meet for it."""
    settings = overrides(sprites, tmp_path / "run", 1, vae=vae, strategy=strategy)
    with caplog.at_level("INFO"):
        gan_inputs(load_config(GanConfig, Path(GAN), settings), World(0, 2, torch.device("cpu"), None), FROM_SCRATCH)
    assert "memory: about " in caplog.text
