"""Growth, learning rates and everything else that follows from the clock: pure functions of images seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.config.schema import GanConfig
from trainer.config.sections import BetaConfig, GrowthConfig, OptimizerConfig


def images(kimg: float, batch_size: int) -> int:
    """Convert a length to images, rounded up to whole iterations, at least one."""
    return max(math.ceil(round(kimg * 1000) / batch_size), 1) * batch_size


def interval(kimg: float) -> int:
    """Convert an interval to images, at least one. An iteration that crosses a multiple of it triggers the event."""
    return max(round(kimg * 1000), 1)


def crossed(images_seen: int, before: int, every: int) -> bool:
    """Return whether the iteration from `before` to images_seen crossed a multiple of `every` (all in images)."""
    return images_seen // every > before // every


@dataclass(frozen=True)
class Phase:
    """A fade into a resolution, or training at it.

    first, last: the clock at its start and end; last is None where the run ends it.
    """

    resolution: int
    batch_size: int
    fades: bool
    first: int
    last: int | None


@dataclass(frozen=True)
class Now:
    """Settings of an iteration. batch_size: global; alpha: of the fade into this resolution, None outside a fade."""

    resolution: int
    batch_size: int
    alpha: float | None


def gan_phases(config: GanConfig) -> list[Phase]:
    """Return the phases of a run of stage 2 from start to end."""
    return phases(config.resolution, config.batch_size, config.growth)


def phases(resolution: int, batch_size: int, growth: GrowthConfig | None) -> list[Phase]:
    """Return a run from start to end as phases, each rounded up to whole iterations of its batch size."""
    if growth is None:
        return [Phase(resolution, batch_size, False, 0, None)]
    result: list[Phase] = []
    clock, r = 0, growth.start_resolution
    while r <= resolution:
        batch = growth.batch_size.get(r, batch_size)
        holds = growth.phase_kimg_at.get(r, growth.phase_kimg)
        for fades, kimg in ((True, growth.fade_kimg), (False, holds)):
            if fades and r == growth.start_resolution:
                continue
            end = None if r == resolution and not fades else clock + images(kimg, batch)
            result.append(Phase(r, batch, fades, clock, end))
            clock = end or clock
        r *= 2
    return result


def now(phases: Sequence[Phase], images_seen: int) -> Now:
    """Return the settings of the iteration that starts at images_seen. alpha rises linearly from 0."""
    phase = next(phase for phase in phases if phase.last is None or images_seen < phase.last)
    alpha = None
    if phase.fades and phase.last is not None:
        alpha = (images_seen - phase.first) / (phase.last - phase.first)
    return Now(phase.resolution, phase.batch_size, alpha)


def ahead(phases: Sequence[Phase], images_seen: int, total: int) -> list[Phase]:
    """Return the phases that a run from images_seen to total (in images) still comes to."""
    unfinished = [p for p in phases if p.last is None or p.last > images_seen]
    return [p for p in unfinished if p.first < total or p.first <= images_seen]


def lazy_weight(weight: float, every: int, iteration: int, following: int) -> float:
    """Return the weight of R1 or R2 in an iteration (counted from 0): 0 where it is not due, else `every` * `weight`.

    It is due in every iteration whose number is a multiple of `every` (lazy R1). following: the number of the next
    iteration. It is larger than iteration + 1 where a resume has changed the batch sizes; if R1 was due at a number in
    between, it is due now.
    """
    next_due = (iteration + every - 1) // every * every
    return weight * every if next_due < following else 0.0


def iteration(phases: Sequence[Phase], images_seen: int, batches_per_step: int) -> int:
    """Return the number of iterations until images_seen. batches_per_step: those that one iteration takes."""
    count = 0
    for phase in phases:
        if phase.first < images_seen:
            end = min(images_seen, phase.last or images_seen)
            count += (end - phase.first) // (phase.batch_size * batches_per_step)
    return count


def beta(config: BetaConfig, images_seen: int) -> float:
    """Return the weight of the KL term in the iteration that starts at images_seen."""
    return _interpolate(config.schedule, images_seen, config.value)


def learning_rate(config: OptimizerConfig, images_seen: int) -> float:
    """Return the learning rate of the iteration that starts at images_seen."""
    return config.lr * _interpolate(config.lr_schedule, images_seen, 1.0)


def _interpolate(points: Sequence[tuple[float, float]], images_seen: int, default: float) -> float:
    """Interpolate [kimg, value] points linearly: constant before the first and after the last, default where none."""
    if not points:
        return default
    times, values = zip(*points, strict=True)
    return float(np.interp(images_seen / 1000, times, values))
