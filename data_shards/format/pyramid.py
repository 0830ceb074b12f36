"""The lower resolutions of an image: box means, rounded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from common.arrays import UInt8


def pyramid(image: UInt8, levels: Sequence[int]) -> dict[int, UInt8]:
    """Return every level of one image uint8 [R, R, C] as box means of it. levels: powers of two up to R, px.

    Each mean is taken of the image itself and rounded once, half up (the sums are exact integers).
    """
    size = image.shape[0]
    result = {size: image}
    sums = image.astype(np.uint32)
    for level in sorted(levels, reverse=True):
        while sums.shape[0] > level:
            sums = (sums[0::2, 0::2] + sums[0::2, 1::2]) + (sums[1::2, 0::2] + sums[1::2, 1::2])
        area = (size // level) ** 2
        result[level] = ((sums + area // 2) // area).astype(np.uint8)
    return {level: result[level] for level in levels}


def levels_of(image: UInt8, own: UInt8 | None, levels: Sequence[int]) -> dict[int, UInt8]:
    """Return every level of an image; those up to the side of `own` are box means of this: see `Sample.own`."""
    side = 0 if own is None else own.shape[0]
    enlarged = pyramid(image, [level for level in levels if level > side])
    return enlarged if own is None else enlarged | pyramid(own, [level for level in levels if level <= side])


def box_mean(images: Tensor, size: int) -> Tensor:
    """Apply the same rule to a batch: uint8 [B, C, R, R] -> uint8 [B, C, size, size].

    The float32 means are exact where R / size is at most 256.
    """
    if images.shape[-1] == size:
        return images
    means = torch.nn.functional.avg_pool2d(images.to(torch.float32), images.shape[-1] // size)
    return means.add_(0.5).floor_().to(torch.uint8)


def at_most(images: Tensor, size: int) -> Tensor:
    """Shrink images above `size` px to it, by `box_mean`: uint8 [B, C, R, R] -> uint8 [B, C, r, r], r at most size."""
    return box_mean(images, size) if images.shape[-1] > size else images
