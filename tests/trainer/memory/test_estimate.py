"""The memory estimate against real runs: live storages, the process's own growth, and what is refused."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from common.errors import UserError
from models import Encoder, freeze
from trainer.config.rules import contradictions
from trainer.config.schema import GanConfig
from trainer.distributed.world import World
from trainer.memory import estimate, free_memory
from trainer.memory.tracker import MemoryTracker
from trainer.preflight import gan_stage
from trainer.stages.gan import GanTraining
from trainer.steps.batches import micro
from trainer.steps.schedule import Now, Phase

ALONE = World(0, 1, torch.device("cpu"), None)
CHANNELS = 3
GROWTH = {"start_resolution": 64, "phase_kimg": 1, "fade_kimg": 1, "batch_size": {64: 8}}
CHECKPOINTING = {"from_resolution": 32}
ADAM = {"optimizer_g": {"name": "adam"}, "optimizer_d": {"name": "adam"}}
SETTINGS: dict[str, dict[str, Any]] = {
    "all at once": {},
    "grown, with Adam": {"growth": GROWTH, **ADAM},
    "checkpointed micro-batches": {"checkpointing": CHECKPOINTING, "micro_batch": 1},
    "many micro-batches": {"batch_size": 16, "micro_batch": 2, "resolution": 64},
    "bf16, no R1": {"autocast": "bfloat16", "r1": 0},
    "lazy R1 in float64": {"r1_interval": 16, "precision": "float64"},
    "Table A.3": {"network": {"name": "conv"}, "resolution": 64, "bottleneck": None, "batch_size": 16},
    "InfoGAN": {"code_source": "prior", "code_loss": "info", "optimizer_q": {"name": "adam"}, "vae": None},
}


def config_of(**more: Any) -> GanConfig:
    shared: dict[str, Any] = {"data": {"path": "none"}, "vae": "none", "schedule": {"total_kimg": 1}, "c_dim": 5}
    shared |= {"network": {"name": "resnet", "nf": 8, "nf_max": 32}, "resolution": 128, "batch_size": 4}
    shared |= {"s_dim": 3, "bottleneck": {}, "code_weight": 0.1}
    config = GanConfig.model_validate(shared | more)
    assert contradictions(config) == []
    return config


def encoder_of(config: GanConfig) -> nn.Module | None:
    return freeze(Encoder(CHANNELS, config.c_dim)) if config.vae else None


def training(config: GanConfig, world: World, encoder: nn.Module | None) -> GanTraining:
    return GanTraining(config, world, CHANNELS, encoder)


def estimator(config: GanConfig, world: World = ALONE) -> estimate.Estimator:
    return estimate.Estimator(training, encoder_of(config), CHANNELS, world)


def iterate(real: GanTraining, config: GanConfig, phase: Phase, images_seen: int = 0) -> None:
    """One real iteration of a phase, with all its micro-batches."""
    numbers = torch.arange(phase.batch_size)
    images = torch.randint(256, (phase.batch_size, CHANNELS, phase.resolution, phase.resolution), dtype=torch.uint8)
    encoder_images = images if phase.resolution == 64 else images[..., :64, :64].clone()
    batch = estimate.Batch(numbers, numbers, numbers, images, encoder_images)
    real.step([micro(batch, config.micro_batch)], Now(phase.resolution, 0, 0.5 if phase.fades else None), images_seen)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_estimate_is_what_a_real_run_has_alive(name: str) -> None:
    """Every phase is run for real, twice: the optimizer's state is there from the second iteration on."""
    config = config_of(**SETTINGS[name])
    need = estimator(config).need(config)
    peaks: dict[int, int] = {}
    with MemoryTracker() as tracker:
        real = training(config, ALONE, copy.deepcopy(encoder_of(config)))
        for phase in [*real.phases[:1], *real.phases]:
            tracker.reset_peak()
            iterate(real, config, phase)
            peaks[phase.resolution] = max(tracker.peak, peaks.get(phase.resolution, 0))
    assert need.bytes == pytest.approx(max(peaks.values()), rel=0.03)
    assert need.resolution == max(peaks, key=lambda resolution: peaks[resolution])
    assert need.kept == pytest.approx(tracker.now, rel=0.03)


GROWS = {"resolution": 256, "network": {"name": "resnet", "nf": 16, "nf_max": 128}, "batch_size": 8}
GROWN_BY = """
import json, sys
from tests.trainer.memory import test_estimate as t
config = t.config_of(**json.loads(sys.argv[1]))
small = t.config_of(resolution=64, network={"name": "resnet", "nf": 2, "nf_max": 4}, batch_size=1)
warm = t.training(small, t.ALONE, t.encoder_of(small))
t.iterate(warm, small, warm.phases[0])  # torch loads its libraries
before = t.status("VmRSS")
real = t.training(config, t.ALONE, t.encoder_of(config))
t.iterate(real, config, real.phases[0])
print(t.status("VmHWM") - before)  # ru_maxrss would start with that of the process that started this one
"""


def status(name: str) -> int:
    """Bytes of this process in RAM: VmRSS now, VmHWM at the most."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def test_a_process_grows_by_as_much() -> None:
    """Where glibc gives back what is freed; it otherwise keeps a quarter more, which is what MARGIN is for.

    Takes more than ten seconds: an interpreter of its own imports torch and trains at 256 px.
    """
    config = config_of(**GROWS)
    need = estimator(config).need(config)
    gives_back = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", GROWN_BY, json.dumps(GROWS)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | gives_back)
    assert int(found.stdout) == pytest.approx(need.bytes, rel=0.15)


def test_only_phases_that_another_outdoes_are_left_out() -> None:
    def phase(resolution: int, batch: int, fades: bool = False) -> Phase:
        return Phase(resolution, batch, fades, 0, None)

    plan = [phase(64, 8), phase(128, 8, True), phase(128, 8), phase(256, 4, True), phase(256, 4)]
    assert estimate.undominated(plan, None, 1) == [plan[1], plan[3]]
    assert estimate.undominated(plan, 4, 1) == [plan[3]]


def test_a_start_tells_what_it_needs_and_refuses_what_is_too_much_with_all_else(
    sprites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"path": str(sprites), "flip": True, "dequantise": False}
    settings = {"network": {"name": "conv"}, "bottleneck": None, "resolution": 64, "data": data, "vae": None}
    settings |= {"code_weight": 0, "c_dim": 0}
    config = config_of(**settings, code_source="none", code_loss="none")
    monkeypatch.setattr(free_memory, "free_bytes", lambda world: 1000)
    with caplog.at_level("INFO"), pytest.raises(UserError, match="2 problems") as error:
        gan_stage(config, ALONE)
    assert re.search(r"memory: about 0\.\d\d GB per process at 64 px", caplog.text)
    assert "micro_batch: 4 images a pass at 64 px need" in str(error.value)
    assert "data.flip" in str(error.value)
