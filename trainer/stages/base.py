"""The interface of a stage of training, which the loop uses, and what both stages share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from data_shards.read.loader import Batch
from trainer.checkpoints.ema_snapshots import Snapshots
from trainer.checkpoints.state import State
from trainer.steps.running_means import Terms
from trainer.steps.schedule import Now, Phase

from .data import Data

DTYPES = {"float32": torch.float32, "float64": torch.float64}
LAYOUT = torch.channels_last  # about a fifth faster than contiguous on CPU, and what tensor cores want
GRID_IMAGES = 64  # of a sample grid


class Stage(Protocol):
    """A stage of training, as the loop sees it.

    input_identity: of the data and the frozen encoder, which a resume must find unchanged; terms: the names of what a
    step reports; phases: resolution, batch size and fade over the clock; checked_from: the clock from which on the
    inputs of the phases were checked; batches_per_step: batches of the stream that one iteration takes; snapshots: the
    averages that the loop writes from time to time, or None; pass_sizes: most images of a pass by resolution, where
    `micro_batch: auto` chose them.
    """

    state: State
    data: Data
    input_identity: dict[str, str | int]
    terms: tuple[str, ...]
    phases: list[Phase]
    checked_from: int
    batches_per_step: int
    snapshots: Snapshots | None
    pass_sizes: dict[int, int]

    def step(self, batches: Sequence[Sequence[Batch]], now: Now, images_seen: int) -> Terms:
        """Run one iteration. batches: this process's micro-batches of each batch; images_seen: the clock before it."""
        ...

    def samples(self, now: Now) -> Tensor:
        """Draw the images of a grid, uint8 [N, C, R, R] on the CPU, at the resolution of now. A collective call."""
        ...


def grid_reals(data: Data, count: int) -> Tensor:
    """Return the reals of a sample grid, from all over the set: uint8 [N, C, 64, 64]."""
    return data.at(grid_samples(data, count), data.seed)


def grid_samples(data: Data, count: int) -> Tensor:
    """Return the sample ids of the reals of a grid: int64 [N]."""
    return data.mixed(0, torch.arange(min(count, data.main.count)))


def to_uint8(images: Tensor) -> Tensor:
    """Round images in [0, 1] to uint8 on the CPU, the form of least memory: a grid may hold large images."""
    return (images.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu()
