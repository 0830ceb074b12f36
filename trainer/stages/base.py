"""What the loop needs of a stage, and what both stages share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

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


class ResumePoint(NamedTuple):
    """Where a run starts: its folder, if it has one, and the clock of its newest checkpoint."""

    run: Path | None = None
    images_seen: int = 0


FROM_SCRATCH = ResumePoint()


class Stage(Protocol):
    """What the loop needs. facts: what a resume must find unchanged; terms: the names that a step reports.

    plan: resolution, batch size and fade over the clock, whose inputs were looked at from `first` on (images seen);
    batches_per_step: of the stream, that one iteration takes.
    snapshots: of averages, that the loop writes; None is none.
    """

    state: State
    data: Data
    facts: dict[str, str | int]
    terms: tuple[str, ...]
    plan: list[Phase]
    first: int
    batches_per_step: int
    snapshots: Snapshots | None

    def step(self, batches: Sequence[Sequence[Batch]], now: Now, images_seen: int) -> Terms:
        """One iteration. batches: this process's micro-batches of each batch; images_seen: the clock before it."""
        ...

    def samples(self, now: Now) -> Tensor:
        """Images of a grid, uint8 [N, C, R, R] on the CPU, at the resolution of now. All processes call it together."""
        ...


def grid_reals(data: Data, count: int) -> Tensor:
    """The reals of a sample grid, from all over the set: uint8 [N, C, 64, 64]."""
    return data.at(data.mixed(0, torch.arange(min(count, data.main.count))), data.seed)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1] as a file has them, on the CPU: a grid of large ones is kept in no other form."""
    return (images.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu()
