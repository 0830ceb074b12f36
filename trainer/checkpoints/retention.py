"""Which checkpoints stay: the newest, one of every so many kimg, and the one that `best` points to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.steps import schedule


@dataclass(frozen=True)
class Keep:
    """last: how many of the newest; every_kimg: one of each such stretch after the first, or None."""

    last: int
    every_kimg: float | None = None

    def of(self, clocks: Sequence[int], best: int | None) -> set[int]:
        """Of the valid steps (by images seen) those that stay; best: the step that `best` points to."""
        found = set(sorted(clocks)[-self.last :])
        if best is not None and best in clocks:
            found.add(best)
        if self.every_kimg is not None:
            every = schedule.interval(self.every_kimg)
            first: dict[int, int] = {}
            for clock in sorted(clocks):  # the oldest of a stretch is there from then on, so it stays the oldest
                first.setdefault(clock // every, clock)
            found |= {clock for stretch, clock in first.items() if stretch > 0}
        return found
