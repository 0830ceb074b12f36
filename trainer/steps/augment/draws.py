"""Random numbers of an augmentation, a function of (seed, purpose, position), in the order in which they are asked."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from common.random_numbers import Purpose, uniform

MOST = 32  # numbers that one image may ask for


class Draws:
    """Numbers for the images at some positions, each asked for once."""

    def __init__(self, seed: int, purpose: Purpose, positions: Tensor, dtype: torch.dtype) -> None:
        self._numbers = uniform(seed, purpose, positions, (MOST,)).double()
        self.dtype, self.device, self._next = dtype, positions.device, 0

    def zeros(self) -> Tensor:
        """Return 0 for every image: [B]."""
        return torch.zeros(len(self._numbers), dtype=self.dtype, device=self.device)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw from U[low, high): [B]."""
        return (low + (high - low) * self._one()).to(self.dtype)

    def integer(self, low: int, high: int) -> Tensor:
        """Draw a whole number from low to high, both included: [B]."""
        return (low + (self._one() * (high - low + 1)).floor()).to(self.dtype)

    def normal(self, deviation: float) -> Tensor:
        """Draw from N(0, deviation^2): [B], by the inverse of the normal distribution; at most 5.4 deviations."""
        middle = self._one() + 2.0**-25  # of the interval that the number stands for: never 0, never 1
        return (torch.erfinv(2 * middle - 1) * math.sqrt(2) * deviation).to(self.dtype)

    def gated(self, probability: Tensor, value: Tensor, otherwise: float) -> Tensor:
        """Return the value with a probability, a 0-dim tensor, and the other one elsewhere: [B]."""
        return torch.where(self._one() < probability, value, otherwise)

    def _one(self) -> Tensor:
        self._next += 1
        return self._numbers[:, self._next - 1]
