"""Generate large images a few at a time, to bound the memory."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

PX_PER_CHUNK = 64 * 64**2  # as many pixels as 64 images of 64 px have


def in_chunks(z: Tensor, resolution: int) -> Iterator[Tensor]:
    """Yield z [B, z_dim] in chunks of rows: 64 images of 64 px, or as many as have no more pixels, at least one."""
    yield from z.split(max(1, PX_PER_CHUNK // resolution**2))
