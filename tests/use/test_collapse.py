"""GANs that collapse: the run says so, and ends or goes back, instead of spending the rest of its time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from tests.support import processes
from tests.support.training import BATCH, CONFIGS, finish, overrides, train_system
from trainer.checkpoints import published
from trainer.reporting.stats_file import read_stats
from trainer.stages.gan import GanStage

STOP = "{action: stop, ticks: 2, from_kimg: 0.048}"
SICK_FROM = 10 * BATCH  # the clock after which G is made constant
RESNET = {"network": "{name: resnet, nf: 2, nf_max: 4}", "s_dim": 3}
SMALL = {**RESNET, "growth": "{start_resolution: 16, phase_kimg: 100, fade_kimg: 1}"}  # 16 px to the end


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir() if path.is_dir())


def step(iteration: int) -> str:
    return published.name_of(BATCH * iteration)


def constant(argv: list[str]) -> None:
    """Train; from image SICK_FROM on G has the weights 0, and draws one image whatever its input."""
    train_once = GanStage.step

    def wrapped(self: GanStage, batches: Any, now: Any, images_seen: int) -> Any:
        if images_seen >= SICK_FROM:
            with torch.no_grad():
                for weights in self.g.network.parameters():
                    weights.zero_()
        return train_once(self, batches, now, images_seen)

    GanStage.step = wrapped  # type: ignore[method-assign]
    processes.module("trainer", argv)


def test_a_constant_generator_stops_the_run_and_nothing_new_is_saved(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    watch = STOP.replace("from_kimg", "gradient_factor: 1e9, from_kimg")  # the samples, not the gradient
    argv = ["gan", str(CONFIGS / "gan.yaml"), *overrides(sprites, run, 30, watch=watch, schedule__keep_last=9, **SMALL)]
    stopped = finish(processes.start(constant, (argv,), tmp_path / "logs"), 2)
    message = stopped.err[stopped.err.index("error: ") :]
    assert re.search(r"samples differ from each other by \S+ of what reals do \(watch.sample_spread: 0.01\)", message)
    assert "in 2 ticks in a row, since 160 images; lower optimizer_g.lr" in message
    assert f"go on from {run / 'checkpoints' / step(10)}, from before: --from-step {step(10)}" in message
    assert "Traceback" not in stopped.err
    assert names(run) == [step(5), step(10)]
    left = json.loads((run / "exit.json").read_text())
    assert left["code"] == 2
    assert left["reason"] in message
    assert [tick["images_seen"] for tick in read_stats(run)][-1] == 12 * BATCH


def test_a_learning_rate_of_g_that_kills_it_stops_the_run(sprites: Path, tmp_path: Path) -> None:
    settings = {"optimizer_g.lr": "1e-2", "watch": STOP}
    stopped = finish(train_system("gan", sprites, tmp_path / "run", 40, **settings), 2)
    assert "watch: " in stopped.err
    assert "lower optimizer_g.lr" in stopped.err
    assert read_stats(tmp_path / "run")[-1]["images_seen"] < 20 * BATCH, "before half of it is spent"


def test_a_beta_that_runs_away_stops_the_run(sprites: Path, tmp_path: Path) -> None:
    settings = {**RESNET, "bottleneck": "{beta_step: 100, information: 0}", "watch": STOP}
    stopped = finish(train_system("gan", sprites, tmp_path / "run", 40, **settings), 2)
    assert re.search(r"the bottleneck's beta is [\d.e+]+ \(watch.bottleneck_beta: 100\)", stopped.err)
    assert "lower bottleneck.beta_step" in stopped.err
    assert read_stats(tmp_path / "run")[-1]["images_seen"] < 20 * BATCH, "before half of it is spent"


def test_after_the_last_rewind_the_run_stops(sprites: Path, tmp_path: Path) -> None:
    """G is dead whatever the seed: two rewinds to the start, then exit code 2."""
    run = tmp_path / "run"
    watch = "{action: rewind, rewinds: 2, ticks: 2, from_kimg: 0.048}"
    settings = {"optimizer_g.lr": "1e-2", "watch": watch, "schedule__keep_last": 3}
    stopped = finish(train_system("gan", sprites, run, 40, **settings), 2)
    for word in ("back to 0 images, rewind 1 of 2", "rewind 2 of 2", "watch.rewinds: 2, and all are spent"):
        assert word in stopped.err
    assert [record["to"] for record in json.loads((run / "rewinds.json").read_text())] == [0, 0]
