"""Large images few at a time."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

AT_ONCE_PX = 64 * 64**2  # pixels that a generator makes in one pass


def in_chunks(z: Tensor, resolution: int) -> Iterator[Tensor]:
    """The rows of z, z_dim wide, in parts of 64 images of 64 px or as few as have as many pixels."""
    yield from z.split(max(1, AT_ONCE_PX // resolution**2))
