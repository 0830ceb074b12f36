"""What a run took, from its ticks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Spent(NamedTuple):
    """Cost of a run. process_seconds: seconds summed over its processes; processes: how many, such as "2, 4"."""

    seconds: float
    process_seconds: float
    images: int
    processes: str


def spent(ticks: Sequence[dict[str, Any]], processes: int) -> Spent:
    """Add up the cost of ticks. A tick's seconds per kimg are those since the one before.

    processes: their number in ticks of earlier versions, which do not say it.
    """
    counts = [int(tick.get("processes", processes)) for tick in ticks]
    seen = [tick["images_seen"] for tick in ticks]
    images = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    seconds = [n * tick["seconds_per_kimg"] / 1000 for n, tick in zip(images, ticks, strict=True)]
    process_seconds = sum(s * n for s, n in zip(seconds, counts, strict=True))
    return Spent(sum(seconds), process_seconds, sum(images), ", ".join(str(n) for n in dict.fromkeys(counts)))
