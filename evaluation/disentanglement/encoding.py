"""Posterior means of images with known factors: the representation that disentanglement metrics measure."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.arrays import Float64, Int64, UInt8
from common.errors import UserError
from common.process_pool import ordered_map
from common.progress import progress_bar
from data_shards.format.manifest import Factor
from data_shards.read.dsprites_variants import draw
from data_shards.read.loader import CODE_RESOLUTION
from data_shards.sources.faces.factors import centres
from data_shards.sources.faces.render import render_values
from data_shards.sources.faces.styles import FaceStyle, open_style_of
from data_shards.sources.sprites.renderer import FACTOR_NAMES, FACTOR_SIZES, render
from evaluation.inputs.images import signed
from evaluation.inputs.run import Run

BATCH = 512
FACES_AT_ONCE = 64  # that one process draws
FactorKind = Literal["classes", "ordered", "circular", "closed"]
"""closed: circular, and the last class is the first one again."""
KINDS_OF_SPRITES: tuple[FactorKind, ...] = ("classes", "ordered", "closed", "ordered", "ordered")
Represent = Callable[[Int64], Float64]
"""places [N] in the grid of factors -> codes [N, c]."""


@dataclass(frozen=True)
class Space:
    """The grid of all combinations of a data set's known factors.

    names, sizes: of the factors, the last one varies the fastest; images: places int64 [N] -> their images uint8
    [n, C, 64, 64], in order, BATCH or fewer at a time; continuous: whether some of the factors are; kinds: what the
    numbers of each factor's classes mean.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    kinds: tuple[FactorKind, ...]
    images: Callable[[Int64], Iterator[Tensor]]
    continuous: bool = False

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
        drawn = partial(sprites_at, run, seed=seed)
        return Space(FACTOR_NAMES, FACTOR_SIZES, KINDS_OF_SPRITES, lambda index: map(drawn, batches(index)))
    names = tuple(factor.name for factor in manifest.factors)
    sizes = tuple(factor.size for factor in manifest.factors)
    kinds = tuple(_kind(factor) for factor in manifest.factors)
    if "style" in manifest.recipe:
        return Space(names, sizes, kinds, partial(faces_at, open_style_of(manifest.recipe)), True)
    space = Space(names, sizes, kinds, lambda index: (data.at(torch.from_numpy(part), seed) for part in batches(index)))
    if not space.names:
        raise UserError(f"{run.path}: trained on {manifest.data_set}, which has no known factors")
    if manifest.count != space.count:
        raise UserError(
            f"{run.path}: {run.config.data.path} holds {manifest.count:,} of {space.count:,} combinations of its "
            "factors; make the set without --count, and train on that"
        )
    return space


def _kind(factor: Factor) -> FactorKind:
    """Return what the classes of a factor are. Manifests say nothing of an order where there is no range."""
    if factor.range is None:
        return "classes"
    return "circular" if factor.circular else "ordered"


def sprites_at(run: Run, index: Int64, seed: int) -> Tensor:
    """Draw the run's variant of dSprites images by index: uint8 [B, C, 64, 64]. Each index has one draw, at epoch 0."""
    data_set = run.data.main.manifest.data_set
    if data_set != "dsprites":
        raise UserError(f"{run.path}: trained on {data_set}, whose factors the factor network does not know")
    ids = torch.from_numpy(index)
    sprites = torch.from_numpy(render(index)).unsqueeze(1) * 255
    return draw(run.data.variant, sprites, ids, torch.zeros_like(ids), seed, run.data.painting)


def batches(index: Int64) -> list[Int64]:
    """Split places [N] into pieces of at most BATCH."""
    return [index[start : start + BATCH] for start in range(0, len(index), BATCH)]


def faces_at(style: FaceStyle, index: Int64) -> Iterator[Tensor]:
    """Draw faces by their places [N], on all cores: a continuous factor has the middle of its bin.

    Yields uint8 [n, 3, 64, 64]. Faces have more combinations than any set could hold.
    """
    workers = len(os.sched_getaffinity(0)) if len(index) > BATCH else 1
    pieces = [index[start : start + FACES_AT_ONCE] for start in range(0, len(index), FACES_AT_ONCE)]
    for images in ordered_map(partial(_draw_faces, style), pieces, workers):
        yield torch.from_numpy(images).permute(0, 3, 1, 2)


def _draw_faces(style: FaceStyle, index: Int64) -> UInt8:
    """Draw faces by their places: uint8 [N, 64, 64, 3]. Runs in a worker process."""
    sizes = [factor.size for factor in style.factors]
    classes = np.stack(np.unravel_index(index, sizes), 1)
    return render_values(style, centres(style.factors, classes), CODE_RESOLUTION)


@torch.no_grad()
def means(run: Run, space: Space, index: Int64, label: str = "encode") -> Float64:
    """Encode images by their places [N] in the grid: posterior means [N, c_dim]. label: of the progress bar."""
    out = np.empty((len(index), run.c_dim))
    encoder = run.require_encoder()
    with progress_bar() as bar:
        task = bar.add_task(label, total=len(index))
        done = 0
        for images in space.images(index):
            mean, _ = encoder(signed(images))
            out[done : done + len(mean)] = mean.double().numpy()
            done += len(mean)
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
