"""From decoded uint8 batches to what the steps see. Every random number here is a function of (seed, position)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import record_function

from common.random_numbers import Purpose, bits, uniform
from data_shards.read.loader import Batch
from trainer.config.sections import GanDataConfig
from trainer.labels.label_table import LabelTable

from .schedule import Now


class Reals(NamedTuple):
    """Real images of one pass of stage 2.

    positions: int64 [b] in the stream; images: [b, C, R, R] in [-1, 1 + 1/128), R the active resolution;
    encoder_images: [b, C, 64, 64] in [-1, 1], None where no encoder looks at them; alpha: 0-dim, of the fade into R, or
    None; y: label vectors [b, y_dim], None without labels.
    """

    positions: Tensor
    images: Tensor
    encoder_images: Tensor | None
    alpha: Tensor | None = None
    y: Tensor | None = None


class VaeBatch(NamedTuple):
    """Images of one pass of stage 1. positions: int64 [b] in the stream; x: [b, C, 64, 64] in [0, 1]."""

    positions: Tensor
    x: Tensor


def pass_size(share: int, most: int | str | None) -> int:
    """Return the images of a pass: the largest divisor of a process's share of a batch that is at most `most`.

    None, and "auto" before it is resolved, is the whole share.
    """
    if not isinstance(most, int) or most >= share:
        return share
    return next(size for size in range(most, 0, -1) if share % size == 0)


def micro(batch: Batch, most: int | str | None) -> list[Batch]:
    """Split a process's share of a batch into equal micro-batches of at most `most` images; None makes one of all."""
    count = len(batch.positions)
    size = pass_size(count, most)
    if size == count:
        return [batch]
    return [_piece(batch, slice(i, i + size)) for i in range(0, count, size)]


def _piece(batch: Batch, rows: slice) -> Batch:
    images, encoder_images = batch.images[rows], batch.encoder_images
    if batch.encoder_images is batch.images:
        encoder_images = images
    elif encoder_images is not None:
        encoder_images = encoder_images[rows]
    return Batch(batch.positions[rows], batch.samples[rows], batch.epochs[rows], images, encoder_images)


@record_function("batch to device")
def vae_batch(batch: Batch, device: torch.device, dtype: torch.dtype) -> VaeBatch:
    """Scale pixels to [0, 1] for stage 1, with no flip and no noise."""
    x = batch.images.to(device, non_blocking=True).to(dtype) / 255
    return VaeBatch(batch.positions.to(device, non_blocking=True), x)


@record_function("batch to device")
def reals(
    batch: Batch,
    data: GanDataConfig,
    labels: LabelTable | None,
    seed: int,
    now: Now,
    device: torch.device,
    dtype: torch.dtype,
) -> Reals:
    """Prepare a batch for stage 2: pixels in [-1, 1], flipped, at the active resolution, blended in a fade, plus noise.

    The encoder gets the stored 64 px images, flipped alike and without the noise (the official code pools the noisy
    image: a shift of 1/256 on average). Below 64 px the images are box means of the 64 px ones, or those of a lower
    level where the 64 px ones are enlarged.
    """
    positions = batch.positions.to(device, non_blocking=True)
    images = _signed(batch.images, device, dtype)
    encoder_images = None
    if batch.encoder_images is batch.images:
        encoder_images = images
    elif batch.encoder_images is not None:
        encoder_images = _signed(batch.encoder_images, device, dtype)
    if data.flip:
        flips = (bits(seed, Purpose.FLIP, positions, 1) >> 31).bool()[:, 0]
        images = _flipped(images, flips)
        encoder_images = None if encoder_images is None else _flipped(encoder_images, flips)
    alpha = None if now.alpha is None else torch.full((), now.alpha, device=device, dtype=dtype)
    images = _at_resolution(images, now.resolution, alpha)
    if data.dequantise:
        images = images + uniform(seed, Purpose.DEQUANTISE, positions, images.shape[1:]).to(dtype) / 128
    y = None if labels is None else labels.y(batch.samples).to(device, dtype, non_blocking=True)
    return Reals(positions, images, encoder_images, alpha, y)


def _flipped(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror the images [b, C, R, R] whose entry of flips, bool [b], is True."""
    return torch.where(flips[:, None, None, None], images.flip(-1), images)


def _at_resolution(images: Tensor, resolution: int, alpha: Tensor | None) -> Tensor:
    """Pool images to a resolution; in a fade, blend them with half the resolution as the generator blends its own."""
    if images.shape[-1] > resolution:
        images = F.avg_pool2d(images, images.shape[-1] // resolution)
    if alpha is None:
        return images
    return torch.lerp(F.interpolate(F.avg_pool2d(images, 2), scale_factor=2), images, alpha)


def _signed(images: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Scale uint8 pixels to [-1, 1] on the device."""
    return images.to(device, non_blocking=True).to(dtype) / 127.5 - 1
