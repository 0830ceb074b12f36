"""Means of the terms that steps report. They are kept on the device, so that the CPU waits for it at ticks only."""

from __future__ import annotations

import torch
from torch import Tensor

from common.errors import UserError
from trainer.distributed.world import World


class NonFinite(UserError):
    """A term was NaN or infinite. The run stops, and no checkpoint is published after that step."""


class RunningMeans:
    """Sums of terms since the last tick, and the first step in which each term was not finite.

    A process adds its share of the global mean, so the sum over the processes is the global sum. A checkpoint holds
    `sums` and `count`.
    """

    def __init__(self, names: tuple[str, ...], world: World) -> None:
        self.names, self.world = names, world
        self.sums = torch.zeros(len(names), dtype=torch.float64, device=world.device)
        self.count = torch.zeros((), dtype=torch.int64)
        self.first_bad = torch.full((len(names),), -1, dtype=torch.int64, device=world.device)

    def add(self, terms: dict[str, Tensor], step: int) -> None:
        """Add one step's terms (0-dim tensors, every name once)."""
        values = torch.stack([terms[name].detach().to(torch.float64) for name in self.names])
        self.sums += values / self.world.size
        self.count += 1
        bad = ~torch.isfinite(values) & (self.first_bad < 0)
        self.first_bad = torch.where(bad, step, self.first_bad)

    def check(self) -> None:
        """Raise NonFinite on every process if any saw a term that is not finite. It names the first such step."""
        own = [(step, name) for name, step in zip(self.names, self.first_bad.tolist(), strict=True) if step >= 0]
        everywhere = [pair for pairs in self.world.all_gather_object(own) for pair in pairs]
        if everywhere:
            step, name = min(everywhere, key=lambda pair: pair[0])
            raise NonFinite(f"{name} is not finite at step {step}")

    def sum_over_processes(self) -> None:
        """Sum over the processes, so that every process saves the same."""
        self.world.all_reduce_sum_(self.sums)

    def keep_on_main(self) -> None:
        """Clear the sums but the main process's, so that each counts once again.

        Call it after `sum_over_processes` and after loading the sums.
        """
        if not self.world.is_main:
            self.sums.zero_()

    def global_means(self) -> dict[str, float]:
        """Return the global means over the steps since the last `reset`."""
        sums = self.world.all_reduce_sum_(self.sums.clone()) / max(int(self.count), 1)
        return dict(zip(self.names, sums.tolist(), strict=True))

    def reset(self) -> None:
        """Start again from no step."""
        self.sums.zero_()
        self.count.zero_()


class Terms(dict[str, Tensor]):
    """Terms of one step, summed over its micro-batches."""

    def add(self, share: float, **means: Tensor) -> None:
        """Add one micro-batch's means, which count for `share` of the batch."""
        for name, mean in means.items():
            value = mean.detach() * share
            self[name] = self[name] + value if name in self else value
