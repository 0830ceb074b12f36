"""Everything that follows from the clock: pure functions of images seen."""

from __future__ import annotations

import math

from .config import BetaConfig


def images(kimg: float, batch_size: int) -> int:
    """An interval or length in images, rounded up to whole iterations."""
    return math.ceil(round(kimg * 1000) / batch_size) * batch_size


def crossed(images_seen: int, batch_size: int, interval: int) -> bool:
    """Whether the iteration that ended at images_seen crossed a multiple of interval (in images)."""
    return images_seen // interval > (images_seen - batch_size) // interval


def beta(config: BetaConfig, images_seen: int) -> float:
    """The weight of the KL term at the iteration that starts at images_seen."""
    past = images_seen - config.hold_kimg * 1000
    if past < 0:
        return 0.0
    ramp = config.ramp_kimg * 1000
    return config.value if past >= ramp else config.value * past / ramp
