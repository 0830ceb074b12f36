"""DiffAugment (Zhao, Liu, Lin, Zhu, Han, 2020): colour, translation and cutout, on every image."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.config.schema import DiffAugmentConfig

from .draws import Draws
from .transforms import Contrast, Resampling, Transform, cut_out, for_channels, grey_axis, interpolation


def transforms(config: DiffAugmentConfig, draws: Draws, images: Tensor) -> list[Transform]:
    """Return the transforms of images [B, C, R, R] in [-1, 1], in the order in which they act."""
    channels, size = images.shape[1], images.shape[-1]
    chosen: list[Transform] = []
    if "color" in config.transforms:
        chosen += _color(draws, channels)
    if "translation" in config.transforms:
        chosen.append(_translation(draws, size))
    if "cutout" in config.transforms:
        chosen.append(cut_out(draws.uniform(), draws.uniform(), size))
    return chosen


def _color(draws: Draws, channels: int) -> list[Transform]:
    """Brightness + [-0.5, 0.5), saturation about a pixel's mean * [0, 2), contrast about the image's * [0.5, 1.5)."""
    brightness, saturation, contrast = draws.uniform(-0.5, 0.5), draws.uniform(0, 2), draws.uniform(0.5, 1.5)
    eye = torch.eye(3, dtype=brightness.dtype, device=brightness.device)
    grey = grey_axis(brightness.dtype, brightness.device)
    matrix = grey + saturation[:, None, None] * (eye - grey)
    return [for_channels(matrix, brightness[:, None].expand(-1, 3), channels), Contrast(contrast)]


def _translation(draws: Draws, size: int) -> Resampling:
    """Move by whole pixels, at most an eighth of the side; 0 comes in from outside."""
    most = (size + 4) // 8
    axis = torch.arange(size, device=draws.device, dtype=draws.dtype)
    rows, columns = (interpolation(axis - draws.integer(-most, most)[:, None], reflect=False) for _ in range(2))
    return Resampling(rows, columns)
