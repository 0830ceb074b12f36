"""Walks through the latent space: smooth changes between random codes, as a lossless video without an end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from common.atomic_writes import publish
from data_shards.format.pyramid import box_mean
from evaluation.inputs.choices import Codes
from evaluation.inputs.images import codes, nuisance, of_codes, own_kind
from evaluation.inputs.run import Run
from trainer.export.image_grids import grid

KEYS, STEPS, FRAMES_A_SECOND = 5, 12, 12
WIDTH = 256  # px: so many walks beside each other as fit; larger images are shrunk to it


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Along the arc between vectors [B, dim]; its length goes evenly from |a| to |b|. share: 0 is a, 1 is b."""
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


def frames(run: Run, source: Codes, seed: int) -> Iterator[Tensor]:
    """Images of every moment: uint8 [walks, C, R, R]. s walks with c."""
    walks = max(1, WIDTH // run.resolution)
    at = torch.arange(walks * KEYS)
    c, s = (v.unflatten(0, (KEYS, walks)) for v in (codes(run, seed, at, source, 0), nuisance(run, seed, at)))
    for key in range(KEYS):
        after = (key + 1) % KEYS
        for step in range(STEPS):
            share = step / STEPS
            yield of_codes(run, own_kind(run), slerp(c[key], c[after], share), slerp(s[key], s[after], share))


def video(run: Run, source: Codes, seed: int, path: Path) -> None:
    """Write a lossless, endless WebP."""
    pictures = [grid(_small(images.cpu()), len(images)) for images in frames(run, source, seed)]
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


def _small(images: Tensor) -> Tensor:
    return box_mean(images, WIDTH) if images.shape[-1] > WIDTH else images
