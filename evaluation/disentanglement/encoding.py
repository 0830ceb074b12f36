"""Posterior means of images with known factors: the representation that disentanglement metrics measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.arrays import Float64, Int64
from common.errors import UserError
from common.progress import progress_bar
from data_shards.read.dsprites_variants import draw
from data_shards.sources.sprites.renderer import FACTOR_NAMES, FACTOR_SIZES, render
from evaluation.inputs.images import signed
from evaluation.inputs.run import Run

BATCH = 512
Represent = Callable[[Int64], Float64]
"""places [N] in the grid of factors -> codes [N, c]."""


@dataclass(frozen=True)
class Space:
    """The grid of all combinations of a data set's known factors.

    names, sizes: of the factors, the last one varies the fastest; images: places int64 [N] -> uint8 [N, C, 64, 64].
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    images: Callable[[Int64], Tensor]

    @property
    def count(self) -> int:
        """Number of combinations."""
        return math.prod(self.sizes)


def space_of(run: Run, seed: int) -> Space:
    """Return the grid of factors of a run's data.

    Raises UserError where the data set has no known factors, or does not hold all their combinations.
    """
    manifest, data = run.data.main.manifest, run.data
    if manifest.data_set == "dsprites":
        return Space(FACTOR_NAMES, FACTOR_SIZES, lambda index: sprites_at(run, index, seed))
    space = Space(
        tuple(factor.name for factor in manifest.factors),
        tuple(factor.size for factor in manifest.factors),
        lambda index: data.at(torch.from_numpy(index), seed),
    )
    if not space.names:
        raise UserError(f"{run.path}: trained on {manifest.data_set}, which has no known factors")
    if manifest.count != space.count:
        raise UserError(
            f"{run.path}: {run.config.data.path} holds {manifest.count:,} of {space.count:,} combinations of its "
            "factors; make the set without --count, and train on that"
        )
    return space


def sprites_at(run: Run, index: Int64, seed: int) -> Tensor:
    """Draw the run's variant of dSprites images by index: uint8 [B, C, 64, 64]. Each index has one draw, at epoch 0."""
    data_set = run.data.main.manifest.data_set
    if data_set != "dsprites":
        raise UserError(f"{run.path}: trained on {data_set}, whose factors the factor network does not know")
    ids = torch.from_numpy(index)
    sprites = torch.from_numpy(render(index)).unsqueeze(1) * 255
    return draw(run.data.variant, sprites, ids, torch.zeros_like(ids), seed, run.data.painting)


@torch.no_grad()
def means(run: Run, space: Space, index: Int64, label: str = "encode") -> Float64:
    """Encode images by their places [N] in the grid: posterior means [N, c_dim]. label: of the progress bar."""
    out = np.empty((len(index), run.c_dim))
    encoder = run.require_encoder()
    with progress_bar() as bar:
        task = bar.add_task(label, total=len(index))
        for start in range(0, len(index), BATCH):
            rows = slice(start, start + BATCH)
            mean, _ = encoder(signed(space.images(index[rows])))
            out[rows] = mean.double().numpy()
            bar.advance(task, len(mean))
    return out


def representation(run: Run, space: Space, whole_grid: bool) -> Represent:
    """Return a function from places [N] to posterior means [N, c_dim]. whole_grid: encode all images once, ahead.

    Raises UserError where the run has no encoder.
    """
    run.require_encoder()
    if not whole_grid:
        return lambda index: means(run, space, index)
    table = means(run, space, np.arange(space.count), "encode the grid")
    return lambda index: table[index]
