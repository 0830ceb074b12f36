"""The one registry of what changes between steps, as named tensors: what a checkpoint holds, and all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Part(Protocol):
    """Something that is saved. All processes call these together."""

    def state_dict(self) -> dict[str, Tensor]:
        """Under canonical names, whole or as DTensors."""
        ...

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        ...

    def replicated(self) -> dict[str, Tensor]:
        """Those that every process must hold alike, bit for bit."""
        ...


class State:
    """Engines, averages and tensors under canonical names, the same whatever the strategy.

    Names: `NETWORK.PARAMETER`, `optimizer.NETWORK.STATE.PARAMETER`, `ema.AVERAGE.PARAMETER` and plain ones such as
    `images_seen`.
    """

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._tensors: dict[str, Tensor] = {}

    def add(self, part: Part) -> None:
        self._parts.append(part)

    def add_tensor(self, name: str, tensor: Tensor) -> None:
        self._tensors[name] = tensor

    def state_dict(self) -> dict[str, Tensor]:
        """Every registered tensor by name."""
        out = dict(self._tensors)
        for part in self._parts:
            out |= part.state_dict()
        return out

    def replicated(self) -> dict[str, Tensor]:
        """Every tensor of the parts that all processes must hold alike."""
        out: dict[str, Tensor] = {}
        for part in self._parts:
            out |= part.replicated()
        return out

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        for part in self._parts:
            part.load_state_dict(tensors)
        for name, tensor in self._tensors.items():
            tensor.copy_(tensors[name])
