"""From decoded uint8 batches to what the steps see. Everything random here is a function of (seed, position)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from common.random_numbers import Purpose, bits, uniform
from data_shards.read.loader import Batch
from trainer.config.sections import GanDataConfig

from .schedule import Now


class Reals(NamedTuple):
    """What one pass of stage 2 sees.

    positions: int64 [b] in the stream; images: [b, C, R, R] in [-1, 1 + 1/128), R the active resolution; twin:
    [b, C, 64, 64] in [-1, 1], None where no q looks at it; alpha: 0-dim, of the fade into R, or None.
    """

    positions: Tensor
    images: Tensor
    twin: Tensor | None
    alpha: Tensor | None = None


class VaeBatch(NamedTuple):
    """positions: int64 [b] in the stream; x: [b, C, 64, 64] in [0, 1]."""

    positions: Tensor
    x: Tensor


def micro(batch: Batch, size: int | None) -> list[Batch]:
    """A process's share of a batch in pieces of `size` images; None is one piece."""
    count = len(batch.positions)
    size = size or count
    if size == count:
        return [batch]
    return [_piece(batch, slice(i, i + size)) for i in range(0, count, size)]


def _piece(batch: Batch, rows: slice) -> Batch:
    images = batch.images[rows]
    twin = images if batch.twin is batch.images else None if batch.twin is None else batch.twin[rows]
    return Batch(batch.positions[rows], batch.samples[rows], batch.epochs[rows], images, twin)


def vae_batch(batch: Batch, device: torch.device, dtype: torch.dtype) -> VaeBatch:
    """Stage 1 sees pixels in [0, 1], with no flip and no noise."""
    x = batch.images.to(device, non_blocking=True).to(dtype) / 255
    return VaeBatch(batch.positions.to(device, non_blocking=True), x)


def reals(batch: Batch, data: GanDataConfig, seed: int, now: Now, device: torch.device, dtype: torch.dtype) -> Reals:
    """Stage 2 sees flipped pixels in [-1, 1] at the active resolution, in a fade blended as G's are, plus noise.

    The encoder gets the stored 64 px twin, flipped alike and without the noise (the official code pools the noisy
    image: a shift of 1/256 on average). Below 64 px the images are box means of the 64 px ones.
    """
    positions = batch.positions.to(device, non_blocking=True)
    images = _signed(batch.images, device, dtype)
    twin = None if batch.twin is None else images if batch.twin is batch.images else _signed(batch.twin, device, dtype)
    if data.flip:
        flip = (bits(seed, Purpose.FLIP, positions, 1) >> 31).bool()[:, 0, None, None, None]
        images = torch.where(flip, images.flip(-1), images)
        twin = None if twin is None else torch.where(flip, twin.flip(-1), twin)
    if images.shape[-1] > now.resolution:
        images = F.avg_pool2d(images, images.shape[-1] // now.resolution)
    alpha = None if now.alpha is None else torch.full((), now.alpha, device=device, dtype=dtype)
    if alpha is not None:
        images = torch.lerp(F.interpolate(F.avg_pool2d(images, 2), scale_factor=2), images, alpha)
    if data.dequantise:
        images = images + uniform(seed, Purpose.DEQUANTISE, positions, images.shape[1:]).to(dtype) / 128
    return Reals(positions, images, twin, alpha)


def _signed(images: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return images.to(device, non_blocking=True).to(dtype) / 127.5 - 1
