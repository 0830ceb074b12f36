"""DiffAugment once more, image by image with slices, from the same numbers: colour, translation, cutout."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

from common.random_numbers import Purpose, uniform


def diffaugment(images: Tensor, seed: int, purpose: Purpose, positions: Tensor) -> Tensor:
    """images: [B, C, R, R] in [-1, 1] -> what D sees of them."""
    numbers = uniform(seed, purpose, positions, (7,)).double()
    return torch.stack([_one(image, [float(n) for n in row]) for image, row in zip(images, numbers, strict=True)])


def _one(x: Tensor, n: list[float]) -> Tensor:
    size = x.shape[-1]
    x = x + (n[0] - 0.5)
    mean = x.mean(0, keepdim=True)
    x = (x - mean) * (2 * n[1]) + mean
    x = (x - x.mean()) * (n[2] + 0.5) + x.mean()
    most = int(size / 8 + 0.5)
    down, right = (int(each * (2 * most + 1)) - most for each in n[3:5])
    wide = F.pad(x, (most, most, most, most))
    moved = wide[:, most - down : most - down + size, most - right : most - right + size]
    kept = torch.ones(size, size, dtype=x.dtype)
    rows, columns = ([i for i in range(size) if abs((i + 0.5) / size - centre) < 0.25] for centre in n[5:7])
    for i, j in itertools.product(rows, columns):
        kept[i, j] = 0
    return moved * kept
