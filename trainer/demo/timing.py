"""What a demo will take on this machine, from a few timed iterations of its trainings."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from common import shipped
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, VaeConfig
from trainer.experiments.programs import run_program
from trainer.reporting.stats_file import read_stats

from .demos import RUNS, Demo, Training

FOLDER = RUNS / "timing"
ITERATIONS, TICKS = 60, 3  # that are timed, and into how many ticks they are split: the last one is taken
START_SECONDS = 6  # until a training has its first iteration


@dataclass(frozen=True)
class Length:
    """How long a training is, and what that takes. kimg: 1,000 images seen."""

    kimg: float
    seconds: float


def seconds_per_kimg(demo: Demo, training: Training) -> float:
    """Time a few iterations at the resolution of each phase; return the mean over the images of the phases."""
    if not training.phases:
        return _timed(demo, training, [])
    timed = [share * _timed(demo, training, _only(training, px)) for px, share in training.phases]
    return sum(timed) / sum(share for _, share in training.phases)


def _only(training: Training, px: int) -> list[str]:
    """Return settings under which nothing but the phase of these px is trained, by the whole network's widths."""
    config = _config(training)
    assert isinstance(config, GanConfig)
    if px == config.resolution:
        return ["growth=null"]
    return [f"growth.start_resolution={px}", "growth.phase_kimg=1000"]


def _config(training: Training) -> VaeConfig | GanConfig:
    path = shipped.config(Path(training.settings[0]))
    return load_config(VaeConfig, path) if training.stage == "vae" else load_config(GanConfig, path)


def _timed(demo: Demo, training: Training, size: list[str]) -> float:
    """Train for ITERATIONS on few images; return the seconds per kimg of the last tick."""
    run, data = FOLDER / "run", FOLDER / "data"
    shutil.rmtree(run, ignore_errors=True)
    if not data.exists():
        run_program(["data_shards", "make", *demo.few, "--out", str(data)])
    kimg = ITERATIONS * _config(training).batch_size / 1000
    schedule = [f"schedule.total_kimg={kimg}", f"schedule.tick_kimg={kimg / TICKS}", "schedule.sample_kimg=1000"]
    encoder = [f"vae=pretrained/{training.encoder}"] if training.encoder else []
    more = [f"run={run}", f"data.path={data}", *encoder, *schedule, *size]
    run_program(["trainer", training.stage, *training.settings, *more])
    return float(read_stats(run)[-1]["seconds_per_kimg"])


def lengths(demo: Demo, speeds: list[float], left: float) -> list[Length]:
    """Choose how long each training is. speeds: seconds per kimg; left: seconds for all that is still to come.

    Only the last training follows the time; the others have their fewest kimg.
    """
    chosen = []
    left -= others(demo, speeds)
    for training, speed in zip(demo.trainings[:-1], speeds[:-1], strict=True):
        chosen.append(Length(training.fewest, START_SECONDS + training.fewest * speed))
        left -= chosen[-1].seconds
    last = demo.trainings[-1]
    kimg = math.floor(min(last.most, max(last.fewest, (left - START_SECONDS) / speeds[-1])))
    return [*chosen, Length(kimg, START_SECONDS + kimg * speeds[-1])]


def others(demo: Demo, speeds: list[float]) -> float:
    """Return the seconds of all steps that are no trainings, as slow here as the last training is."""
    return slowness(demo, speeds) * sum(step.seconds for step in (demo.data, *demo.before, *demo.after))


def slowness(demo: Demo, speeds: list[float]) -> float:
    """Return how many times as long an iteration takes here as on the machine of the demo's seconds."""
    return speeds[-1] / demo.seconds_per_kimg
