"""Everything that follows from the clock: pure functions of images seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.config.schema import GanConfig
from trainer.config.sections import BetaConfig, GrowthConfig, OptimizerConfig


def images(kimg: float, batch_size: int) -> int:
    """A length in images, rounded up to whole iterations; at least one."""
    return max(math.ceil(round(kimg * 1000) / batch_size), 1) * batch_size


def interval(kimg: float) -> int:
    """In images; at least one. What is due at its multiples happens at the end of the iteration that crosses one."""
    return max(round(kimg * 1000), 1)


def crossed(images_seen: int, before: int, every: int) -> bool:
    """Whether the iteration from `before` to images_seen crossed a multiple of `every` (all in images)."""
    return images_seen // every > before // every


@dataclass(frozen=True)
class Phase:
    """A fade, or a stage that holds. first, last: the clock at its start and end, last None for the end of the run."""

    resolution: int
    batch_size: int
    fades: bool
    first: int
    last: int | None


@dataclass(frozen=True)
class Now:
    """What an iteration does. batch_size: global; alpha: of the fade into this resolution, None outside a fade."""

    resolution: int
    batch_size: int
    alpha: float | None


def gan_phases(config: GanConfig) -> list[Phase]:
    """Return the phases of a run of stage 2 from start to end."""
    return phases(config.resolution, config.batch_size, config.growth)


def phases(resolution: int, batch_size: int, growth: GrowthConfig | None) -> list[Phase]:
    """The run from start to end, each phase rounded up to whole iterations of its batch size."""
    if growth is None:
        return [Phase(resolution, batch_size, False, 0, None)]
    found, clock, r = [], 0, growth.start_resolution
    while r <= resolution:
        batch = growth.batch_size.get(r, batch_size)
        holds = growth.phase_kimg_at.get(r, growth.phase_kimg)
        for fades, kimg in ((True, growth.fade_kimg), (False, holds)):
            if fades and r == growth.start_resolution:
                continue
            end = None if r == resolution and not fades else clock + images(kimg, batch)
            found.append(Phase(r, batch, fades, clock, end))
            clock = end or clock
        r *= 2
    return found


def now(plan: Sequence[Phase], images_seen: int) -> Now:
    """The iteration that starts at images_seen. alpha rises linearly from 0."""
    phase = next(phase for phase in plan if phase.last is None or images_seen < phase.last)
    alpha = None
    if phase.fades and phase.last is not None:
        alpha = (images_seen - phase.first) / (phase.last - phase.first)
    return Now(phase.resolution, phase.batch_size, alpha)


def ahead(plan: Sequence[Phase], images_seen: int, total: int) -> list[Phase]:
    """The phases that a run from images_seen to total (in images) still comes to."""
    return [p for p in plan if (p.last is None or p.last > images_seen) and (p.first < total or p.first <= images_seen)]


def r1_weight(weight: float, every: int, iteration: int, after: int) -> float:
    """Of R1 in this iteration (counted from 0): the k-th part of the iterations have k times the weight.

    after: the number of the next one. It may be further on, where other batch sizes were let in on the way; then what
    was due in between is due now.
    """
    return weight * every if -(-iteration // every) * every < after else 0.0


def iteration(plan: Sequence[Phase], images_seen: int, batches_per_step: int) -> int:
    """Iterations that the clock stands for."""
    done = ((min(images_seen, p.last or images_seen) - p.first, p.batch_size) for p in plan if p.first < images_seen)
    return sum(count // (batch * batches_per_step) for count, batch in done)


def beta(config: BetaConfig, images_seen: int) -> float:
    """The weight of the KL term at the iteration that starts at images_seen."""
    return _at(config.schedule, images_seen, config.value)


def learning_rate(config: OptimizerConfig, images_seen: int) -> float:
    """The learning rate of the iteration that starts at images_seen."""
    return config.lr * _at(config.lr_schedule, images_seen, 1.0)


def _at(points: Sequence[tuple[float, float]], images_seen: int, without: float) -> float:
    """Of [kimg, value] points joined by straight lines; before the first and after the last their own values."""
    if not points:
        return without
    times, values = zip(*points, strict=True)
    return float(np.interp(images_seen / 1000, times, values))
