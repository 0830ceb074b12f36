"""Adaptive discriminator augmentation (Karras, Aittala, Hellsten, Laine, Lehtinen, Aila, 2020), appendices B and C.

Each transform acts with probability p, which follows how far D is sure of the reals. Its rotations are left out: a
rotated grid cannot be resampled row by row and column by column. Neither is the resampling limited in bandwidth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.config.schema import AdaConfig
from trainer.distributed.world import World
from trainer.steps.running_means import Terms

from .draws import Draws
from .transforms import Resampling, Transform, cut_out, for_channels, grey_axis, hue_rotation, interpolation


def transforms(config: AdaConfig, p: Tensor, draws: Draws, images: Tensor) -> list[Transform]:
    """Return the transforms of images [B, C, R, R] in [-1, 1], in the order in which they act.

    p: 0-dim, the probability of each.
    """
    channels, size = images.shape[1], images.shape[-1]
    chosen: set[str] = set(config.transforms)
    found: list[Transform] = []
    if chosen & {"flip", "turn", "translation"}:
        found.append(_blit(chosen, p, draws, size))
    if "scale" in chosen:
        found.append(_scale(p, draws, size))
    if "color" in chosen:
        found.append(_color(p, draws, channels))
    if "cutout" in chosen:
        row = draws.gated(p, draws.uniform(), -1.0)  # the square lies beside the image: nothing is cut out
        found.append(cut_out(row, draws.uniform(), size))
    return found


def _blit(chosen: set[str], p: Tensor, draws: Draws, size: int) -> Resampling:
    """Mirror, turn by quarters, move by whole pixels, at most an eighth of the side. The image is reflected outside."""
    mirrored = draws.gated(p, draws.integer(0, 1), 0) if "flip" in chosen else draws.zeros()
    quarters = draws.gated(p, draws.integer(0, 3), 0) if "turn" in chosen else draws.zeros()
    moves = [draws.zeros(), draws.zeros()]
    if "translation" in chosen:
        moved = draws.gated(p, draws.zeros() + 1, 0)
        moves = [moved * draws.integer(-(size // 8), size // 8) for _ in range(2)]
    swapped = (quarters == 1) | (quarters == 3)  # a quarter turn swaps the axes and mirrors one, two mirror both
    signs = (
        torch.where((quarters == 1) | (quarters == 2), -1, 1),
        torch.where((quarters == 2) | (quarters == 3), -1, 1) * (1 - 2 * mirrored),
    )
    axis, middle = _axis(draws, size), (size - 1) / 2
    rows, columns = (
        interpolation(sign[:, None] * (axis - move[:, None]) + middle, reflect=True)
        for sign, move in zip(signs, moves, strict=True)
    )
    return Resampling(rows, columns, swapped)


def _scale(p: Tensor, draws: Draws, size: int) -> Resampling:
    """Scale both sides alike and against each other, and move by parts of a pixel. The image is reflected outside."""
    both, against = (2 ** draws.gated(p, draws.normal(0.2), 0) for _ in range(2))
    moved = draws.gated(p, draws.zeros() + 1, 0)
    axis, middle = _axis(draws, size), (size - 1) / 2
    rows, columns = (
        interpolation(axis / scale[:, None] - move[:, None] + middle, reflect=True)
        for scale, move in ((both / against, moved * draws.normal(size / 8)) for against in (against, 1 / against))
    )
    return Resampling(rows, columns)


def _axis(draws: Draws, size: int) -> Tensor:
    """Return the pixels of an axis, 0 in the middle: [R]."""
    return torch.arange(size, device=draws.device, dtype=draws.dtype) - (size - 1) / 2


def _color(p: Tensor, draws: Draws, channels: int) -> Transform:
    """Brightness, contrast (about mid-grey), luma flip, hue and saturation, as one map of colours."""
    brightness = draws.gated(p, draws.normal(0.2), 0)
    contrast = 2 ** draws.gated(p, draws.normal(0.5), 0)
    flipped = draws.gated(p, draws.integer(0, 1), 0)
    angle = draws.gated(p, draws.uniform(-math.pi, math.pi), 0)
    saturation = 2 ** draws.gated(p, draws.normal(1), 0)
    eye, grey = torch.eye(3, dtype=draws.dtype, device=draws.device), grey_axis(draws.dtype, draws.device)
    luma_flip = eye - 2 * flipped[:, None, None] * grey
    saturate = grey + saturation[:, None, None] * (eye - grey)
    matrix = saturate @ hue_rotation(angle) @ luma_flip * contrast[:, None, None]
    return for_channels(matrix, matrix.sum(2) * brightness[:, None], channels)


class AugmentProbability:
    """p, which rises while D is surer of the reals than `target` and falls while it is less sure.

    Every `interval` iterations p moves by the images since the last move / (1,000 * kimg). It is training state: `p`,
    0-dim, and `since`, [3]: the sum of r over the iterations since the last move, their count, and their images.
    """

    def __init__(self, config: AdaConfig, world: World, dtype: torch.dtype) -> None:
        self.config, self.world = config, world
        self.p = torch.zeros((), device=world.device, dtype=dtype)
        self.since = torch.zeros(3, device=world.device, dtype=torch.float64)

    def step(self, terms: Terms, batch_size: int) -> None:
        """Count an iteration, whose r is in terms, and add the p that it used to them. batch_size: global."""
        terms["augment_p"] = self.p.clone()
        r = self.world.all_reduce_mean_(terms["sure_of_reals"].clone())
        self.since += torch.stack((r.double(), torch.ones_like(r).double(), torch.full_like(r, batch_size).double()))
        total, count, images = self.since.unbind()
        due = count >= self.config.interval
        move = torch.sign(total / count - self.config.target) * images / (1000 * self.config.kimg)
        moved = (self.p.double() + move).clamp(0, self.config.most).to(self.p.dtype)
        self.p.copy_(torch.where(due, moved, self.p))
        self.since.mul_(~due)
