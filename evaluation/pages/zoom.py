"""The detail of large images: each whole, then ever smaller squares around the part with the most detail."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from data_shards.format.pyramid import box_mean

PANEL = 256  # px at which every square is shown
SMALLEST = 512  # px of images that are shown in this way


def strip(images: Tensor) -> Tensor:
    """Return panels uint8 [B, P, C, 256, 256] of images uint8 [B, C, R, R], R of at least SMALLEST.

    The first is the whole image, each next one shows half the side of the one before, the last one enlarges pixels
    twice. Smaller panels are box means.
    """
    side = images.shape[-1]
    panels = [box_mean(images, PANEL)]
    left, top = torch.zeros(len(images), dtype=torch.int64), torch.zeros(len(images), dtype=torch.int64)
    view = images
    while side > PANEL // 2:
        side //= 2
        dx, dy = finest(view, side)
        left, top = left + dx, top + dy
        places = zip(images, left.tolist(), top.tolist(), strict=True)
        view = torch.stack([image[:, y : y + side, x : x + side] for image, x, y in places])
        panels.append(box_mean(view, PANEL) if side >= PANEL else F.interpolate(view, size=PANEL))
    return torch.stack(panels, 1)


def finest(images: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return (left, top), int64 [B], of the square of `side` px with the most change between neighbouring pixels.

    Squares are tried on a grid of an eighth of their side.
    """
    light = images.float().mean(1, keepdim=True)
    across, down = light.diff(dim=3).abs(), light.diff(dim=2).abs()
    change = F.pad(across, (0, 1)) + F.pad(down, (0, 0, 0, 1))
    step = side // 8
    detail = F.avg_pool2d(change, side, step)[:, 0]
    best = detail.flatten(1).argmax(1)
    return best % detail.shape[2] * step, best // detail.shape[2] * step
