"""Walks through the latent space: smooth changes between random codes, as a lossless video in a loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from data_shards.format.pyramid import at_most
from evaluation.inputs.choices import Codes
from evaluation.inputs.images import codes, nuisance, of_codes, own_kind
from evaluation.inputs.run import Run
from trainer.pictures.image_grids import grid
from trainer.pictures.video import write_webp
from trainer.pictures.walks import loop

KEYS, STEPS = 5, 12  # random codes on a walk; frames from one to the next
FRAMES_A_SECOND = 12
WIDTH = 256  # px of the video: as many walks as fit stand beside each other; larger images are shrunk to it


def frames(run: Run, source: Codes, seed: int) -> Iterator[Tensor]:
    """Yield the images of every moment: uint8 [walks, C, R, R]. s walks with c."""
    walks = max(1, WIDTH // run.resolution)
    at = torch.arange(walks * KEYS)
    c, s = (v.unflatten(0, (KEYS, walks)) for v in (codes(run, seed, at, source, 0), nuisance(run, seed, at)))
    for code, noise in zip(loop(c, STEPS), loop(s, STEPS, run.s_dim), strict=True):
        yield of_codes(run, own_kind(run), code, noise)


def video(run: Run, source: Codes, seed: int, path: Path) -> None:
    """Write a lossless, endless WebP."""
    pictures = [grid(at_most(images.cpu(), WIDTH), len(images)) for images in frames(run, source, seed)]
    write_webp(path, pictures, FRAMES_A_SECOND)
