"""Ways in which an image of a network differs from a clean one: the face network is trained to see them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import decode_jpeg, encode_jpeg

Damage = Callable[[Tensor, Tensor, Tensor], Tensor]
"""images [B, 3, R, R] in [0, 1], strengths [B] in (0, 1], dice [B, 8] in [0, 1) -> images of the same shape."""


def blur(images: Tensor, strength: Tensor, dice: Tensor) -> Tensor:
    """Blur by a Gaussian of up to 3 px."""
    at = torch.arange(-8, 9)
    weights = torch.exp(-0.5 * (at / (0.3 + 2.7 * strength[:, None])) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(3, 0)  # of each channel of each image
    flat = F.pad(images, (8, 8, 8, 8), "replicate").flatten(0, 1)[None]
    rows = F.conv2d(flat, weights[:, None, None, :], groups=len(weights))
    both = F.conv2d(rows, weights[:, None, :, None], groups=len(weights))
    return both[0].unflatten(0, images.shape[:2])


def noise(images: Tensor, strength: Tensor, dice: Tensor) -> Tensor:
    """Add Gaussian noise of a standard deviation of up to 0.25, the same in all channels of half of the images."""
    generator = torch.Generator().manual_seed(int(dice[0, 0] * 2**24))
    drawn = torch.randn(images.shape, generator=generator)
    grey = (dice[:, 1] < 0.5)[:, None, None, None]
    drawn = torch.where(grey, drawn[:, :1], drawn)
    return (images + 0.25 * strength[:, None, None, None] * drawn).clamp(0, 1)


def compress(images: Tensor, strength: Tensor, dice: Tensor) -> Tensor:
    """Compress by JPEG, down to quality 3."""
    pixels = (images * 255 + 0.5).to(torch.uint8)
    qualities = (60 * (1 - strength) + 3).long().tolist()
    stored = [decode_jpeg(encode_jpeg(p, quality)) for p, quality in zip(pixels, qualities, strict=True)]
    return torch.stack(stored).float() / 255


def cut_out(images: Tensor, strength: Tensor, dice: Tensor) -> Tensor:
    """Cover a rectangle of up to 0.6 of each side with one colour."""
    size = images.shape[-1]
    place = torch.arange(size) / size
    sides = (0.1 + 0.5 * strength)[:, None] * (0.5 + dice[:, 0:2] / 2)
    corner = dice[:, 2:4] * (1 - sides)
    row, column = (
        (place >= corner[:, k : k + 1]) & (place < corner[:, k : k + 1] + sides[:, k : k + 1]) for k in (0, 1)
    )
    covered = (row[:, :, None] & column[:, None, :])[:, None]
    return torch.where(covered, dice[:, 4:7, None, None], images)


def shift_colour(images: Tensor, strength: Tensor, dice: Tensor) -> Tensor:
    """Scale and shift each channel, by up to half of its range."""
    gain = 1 + strength[:, None] * (dice[:, 0:3] - 0.5)
    offset = strength[:, None] * (dice[:, 3:6] - 0.5) / 2
    return (images * gain[:, :, None, None] + offset[:, :, None, None]).clamp(0, 1)


DAMAGES: dict[str, Damage] = {
    "blur": blur,
    "noise": noise,
    "compression": compress,
    "cut-out": cut_out,
    "colour shift": shift_colour,
}
