"""What the watch keeps from tick to tick: since when each sign is there, and what gradients are as a rule.

A checkpoint's manifest holds it, so that a resumed run decides as the unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .signs import GRADIENTS, Sign


@dataclass
class Streak:
    """Ticks in a row that have a sign.

    began: the clock at the start of the first; ticks: how many; told: whether a warning has named it.
    """

    began: int
    ticks: int = 0
    told: bool = False


@dataclass
class Usual:
    """The geometric mean of a gradient's norm. mean_log: of its natural logarithm; ticks: over how many."""

    mean_log: float = 0.0
    ticks: int = 0

    def add(self, value: float) -> None:
        """Count one tick's norm, above 0."""
        self.ticks += 1
        self.mean_log += (math.log(value) - self.mean_log) / self.ticks


@dataclass
class History:
    """The ticks so far. images_seen: the clock at the end of the last one."""

    images_seen: int = 0
    streaks: dict[str, Streak] = field(default_factory=dict)
    usual: dict[str, Usual] = field(default_factory=dict)

    @property
    def typical(self) -> dict[str, float]:
        """Norms of gradients as they are as a rule, by term; without those that no tick has told yet."""
        return {term: math.exp(usual.mean_log) for term, usual in self.usual.items()}

    def add(self, images_seen: int, signs: Sequence[Sign], terms: Mapping[str, float]) -> None:
        """Count a tick that ends at images_seen. A gradient that is a sign does not change what is usual."""
        names = {sign.name for sign in signs}
        self.streaks = {name: self.streaks.get(name, Streak(self.images_seen)) for name in sorted(names)}
        for streak in self.streaks.values():
            streak.ticks += 1
        for term, name in GRADIENTS.items():
            if term in terms and name not in names:
                self.usual.setdefault(term, Usual()).add(terms[term])
        self.images_seen = images_seen

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest holds."""
        return {
            "images_seen": self.images_seen,
            "streaks": {name: vars(streak) for name, streak in self.streaks.items()},
            "usual": {term: vars(usual) for term, usual in self.usual.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> History:
        """Read what `to_json` returned."""
        return cls(
            content["images_seen"],
            {name: Streak(**values) for name, values in content["streaks"].items()},
            {term: Usual(**values) for term, values in content["usual"].items()},
        )
