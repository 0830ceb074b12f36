"""Means of what the steps report, kept on the device: nothing waits for it between ticks."""

from __future__ import annotations

import torch
from torch import Tensor

from data_shards.errors import UserError

from .world import World


class NonFinite(UserError):
    """A term was NaN or infinite: the run stops, and nothing after that step is ever published."""


class Stats:
    """Sums since the last tick and the first step at which each term was not finite; both are part of a checkpoint."""

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        self.names = names
        self.sums = torch.zeros(len(names), dtype=torch.float64, device=device)
        self.count = torch.zeros((), dtype=torch.int64)
        self.first_bad = torch.full((len(names),), -1, dtype=torch.int64, device=device)

    def add(self, terms: dict[str, Tensor], step: int) -> None:
        """Add one step's terms (0-dim tensors, every name once)."""
        values = torch.stack([terms[name].detach().to(torch.float64) for name in self.names])
        self.sums += values
        self.count += 1
        bad = ~torch.isfinite(values) & (self.first_bad < 0)
        self.first_bad = torch.where(bad, step, self.first_bad)

    def check(self, world: World) -> None:
        """Raise NonFinite on every process where any saw a term that is not finite."""
        bad = {name: step for name, step in zip(self.names, self.first_bad.tolist(), strict=True) if step >= 0}
        everywhere = [found for found in world.gather(bad) if found]
        if everywhere:
            name, step = min(everywhere[0].items(), key=lambda item: item[1])
            raise NonFinite(f"{name} is not finite at step {step}")

    def read(self, world: World) -> dict[str, float]:
        """Means over the steps since the last reading and over the processes; then start again."""
        sums = world.sum_(self.sums.clone()) / (max(int(self.count), 1) * world.size)
        self.sums.zero_()
        self.count.zero_()
        return dict(zip(self.names, sums.tolist(), strict=True))


class Terms(dict[str, Tensor]):
    """Terms of one step, summed over its micro-batches."""

    def add(self, name: str, value: Tensor, share: float) -> None:
        """Add one micro-batch's mean, which counts for `share` of the batch."""
        value = value.detach() * share
        self[name] = self[name] + value if name in self else value
