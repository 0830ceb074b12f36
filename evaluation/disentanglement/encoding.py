"""Posterior means of dSprites images by dataset index: the representation that disentanglement metrics look at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.cli import progress_bar
from data_shards.errors import UserError
from data_shards.sources.dsprites import COUNT, render
from data_shards.variants import draw

from ..images import signed
from ..run import Run

BATCH = 512
Represent = Callable[[NDArray[np.int64]], NDArray[np.float64]]


def images_at(run: Run, index: NDArray[np.int64], seed: int) -> Tensor:
    """The run's variant of dSprites images by index: uint8 [B, C, 64, 64]. Each index has one draw, at epoch 0."""
    if run.data.main.manifest.data_set != "dsprites":
        raise UserError(f"{run.path}: trained on {run.data.main.manifest.data_set}, which has no known factors")
    ids = torch.from_numpy(index)
    sprites = torch.from_numpy(render(index)).unsqueeze(1) * 255
    return draw(run.data.variant, sprites, ids, torch.zeros_like(ids), seed, run.data.painting)


@torch.no_grad()
def means(run: Run, index: NDArray[np.int64], seed: int, label: str = "encode") -> NDArray[np.float64]:
    """Posterior means [N, c_dim] of images by dataset index [N]."""
    out = np.empty((len(index), run.c_dim))
    encoder = run.look()
    with progress_bar() as bar:
        task = bar.add_task(label, total=len(index))
        for start in range(0, len(index), BATCH):
            rows = slice(start, start + BATCH)
            mean, _ = encoder(signed(images_at(run, index[rows], seed)))
            out[rows] = mean.double().numpy()
            bar.advance(task, len(mean))
    return out


def representation(run: Run, seed: int, whole_grid: bool) -> Represent:
    """index [N] -> posterior means [N, c_dim]; whole_grid encodes all 737,280 images first and then looks them up."""
    run.look()
    if not whole_grid:
        return lambda index: means(run, index, seed)
    table = means(run, np.arange(COUNT), seed, "encode the grid")
    return lambda index: table[index]
