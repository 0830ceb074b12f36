"""Everything that follows from the clock: pure functions of images seen."""

from __future__ import annotations

import math

import numpy as np

from .config import BetaConfig


def images(kimg: float, batch_size: int) -> int:
    """An interval or length in images, rounded up to whole iterations; at least one."""
    return max(math.ceil(round(kimg * 1000) / batch_size), 1) * batch_size


def crossed(images_seen: int, batch_size: int, interval: int) -> bool:
    """Whether the iteration that ended at images_seen crossed a multiple of interval (in images)."""
    return images_seen // interval > (images_seen - batch_size) // interval


def beta(config: BetaConfig, images_seen: int) -> float:
    """The weight of the KL term at the iteration that starts at images_seen: before the course its first value."""
    kimg = images_seen / 1000
    if not config.course or kimg >= config.course[-1][0]:
        return config.value
    times, values = zip(*config.course, strict=True)
    return float(np.interp(kimg, times, values))
