"""Walks through latent space: traversals of one latent, arcs between codes, and their video."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from common.atomic_writes import publish

TRAVERSAL_STEPS = 7
FRAMES_A_SECOND = 12


def traversal_values() -> Tensor:
    """Return linspace(-3, 3, 7), as in the paper's figures."""
    return torch.linspace(-3, 3, TRAVERSAL_STEPS)


def traversal_codes(base: Tensor, latent: int) -> Tensor:
    """Set one latent of each base [B, dim] to each traversal value: [B, 7, dim]."""
    c = base[:, None].repeat(1, TRAVERSAL_STEPS, 1)
    c[:, :, latent] = traversal_values()
    return c


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Interpolate between vectors [B, dim] along the arc; the length goes evenly from |a| to |b|.

    share: 0 is a, 1 is b.
    """
    if a.shape[1] == 0:
        return a
    sizes = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    p, q = (v / size.clamp_min(1e-12) for v, size in zip((a, b), sizes, strict=True))
    angle = (p * q).sum(1, keepdim=True).clamp(-1, 1).acos()
    turn = angle.sin()
    straight = turn < 1e-4  # the same direction, or the opposite one, where there is no shortest arc
    along = (((1 - share) * angle).sin() * p + (share * angle).sin() * q) / turn.clamp_min(1e-12)
    size = (1 - share) * sizes[0] + share * sizes[1]
    return torch.where(straight, (1 - share) * a + share * b, along * size)


def write_video(path: Path, pictures: Sequence[Image.Image]) -> None:
    """Write pictures as a lossless, endless WebP; the file appears complete or not at all."""
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=1000 // FRAMES_A_SECOND,
        loop=0,
        lossless=True,
        method=4,
    )
    publish(path, buffer.getvalue())
