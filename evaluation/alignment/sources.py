"""Source images with known factors, and how well their factors are found: the interface, one class for a data set."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

Readings = dict[str, Any]
"""What is read from images, by name: arrays [N, ...]."""


class Sources(Protocol):
    """Source images with known factors."""

    def images(self, positions: Tensor) -> Tensor:
        """Return the images at positions int64 [b]: uint8 [b, C, 64, 64]."""
        ...

    def label_rows(self, positions: Tensor) -> Tensor | None:
        """Return the labels of those images, int64 [b, L], where the run has labels."""
        ...

    def read(self, images: Tensor) -> Readings:
        """Read the factors of images uint8 [b, C, R, R]."""
        ...

    def score(self, predicted: Readings) -> dict[str, Any]:
        """Compare what was read from the images of all positions with the truth."""
        ...
