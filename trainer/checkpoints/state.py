"""The registry of everything that changes between steps, as named tensors. A checkpoint holds these and no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Part(Protocol):
    """A part of the state, such as an engine. All processes call its methods together."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors by canonical name, whole or as DTensors."""
        ...

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state_dict` gave."""
        ...

    def replicated(self) -> dict[str, Tensor]:
        """Return the tensors that must be the same on every process, bit for bit."""
        ...


class State:
    """Engines, averages and single tensors. Names are the same under every strategy.

    They are `NETWORK.PARAMETER`, `optimizer.NETWORK.STATE.PARAMETER`, `ema.AVERAGE.PARAMETER` and plain ones such as
    `images_seen`.
    """

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._tensors: dict[str, Tensor] = {}

    def add(self, part: Part) -> None:
        """Register a part."""
        self._parts.append(part)

    def add_tensor(self, name: str, tensor: Tensor) -> None:
        """Register a tensor. It is loaded in place."""
        self._tensors[name] = tensor

    def state_dict(self) -> dict[str, Tensor]:
        """Return every registered tensor by name."""
        tensors = dict(self._tensors)
        for part in self._parts:
            tensors |= part.state_dict()
        return tensors

    def replicated(self) -> dict[str, Tensor]:
        """Return every tensor of the parts that must be the same on every process."""
        tensors: dict[str, Tensor] = {}
        for part in self._parts:
            tensors |= part.replicated()
        return tensors

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state_dict` gave."""
        for part in self._parts:
            part.load_state_dict(tensors)
        for name, tensor in self._tensors.items():
            tensor.copy_(tensors[name])
