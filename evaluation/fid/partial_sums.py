"""What a pass over images leaves, saved as it goes on: a job that was stopped goes on from there, on any number of
processes. Images come in blocks of 64 positions, which are split over the processes whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from common.atomic_writes import publish
from common.errors import UserError
from evaluation.inputs.images import BLOCK
from trainer.distributed.world import World

from .frechet import Moments

ROUND = 8  # blocks of each process between two saves
STOPPED = Event()  # by a signal: its KeyboardInterrupt is lost where it falls into a callback of C


class Seen(NamedTuple):
    """What is seen in some images. features: [b, dim]; faithful: bool [b], where that is asked."""

    features: Tensor
    faithful: Tensor | None = None


Look = Callable[[Tensor], Seen]


@dataclass
class Sums:
    """Of the first `blocks` blocks. faithful: images that are."""

    blocks: int
    moments: Moments
    faithful: int = 0

    @classmethod
    def empty(cls, dim: int) -> Sums:
        return cls(0, Moments.empty(dim))

    def add(self, seen: Sequence[Seen]) -> None:
        """All at once: the outer products of many features are one product of matrices."""
        if seen:
            self.moments.add(torch.cat([one.features for one in seen]))
        self.faithful += sum(int(one.faithful.sum()) for one in seen if one.faithful is not None)


class Store:
    """FOLDER/KEY.safetensors, the sums so far, and FOLDER/KEY/, the features of the first blocks as BLOCK.npy.

    facts: everything that the images and their features depend on; the key is its hash, so that another pass never
    goes on from these sums. features: of so many images are kept; None of all.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], features: int | None) -> None:
        key = hashlib.sha256(json.dumps([facts, features], sort_keys=True).encode()).hexdigest()[:16]
        self.facts, self.path, self.features, self.kept = facts, folder / f"{key}.safetensors", folder / key, features

    def open(self, dim: int) -> Sums:
        """The sums that are there, or none. A file that is not whole counts as none: it is made again."""
        self.features.mkdir(parents=True, exist_ok=True)
        try:
            found = load(self.path.read_bytes())
            moments = Moments(int(found["count"]), found["total"].numpy(), found["outer"].numpy())
            return Sums(int(found["blocks"]), moments, int(found["faithful"]))
        except (FileNotFoundError, SafetensorError, KeyError):
            return Sums.empty(dim)

    def save(self, sums: Sums) -> None:
        """Of the main process."""
        moments = sums.moments
        tensors = {
            "blocks": torch.tensor(sums.blocks),
            "count": torch.tensor(moments.count),
            "faithful": torch.tensor(sums.faithful),
            "total": torch.from_numpy(moments.total),
            "outer": torch.from_numpy(moments.outer),
        }
        publish(self.path, save(tensors))

    def keep(self, block: int, features: Tensor) -> None:
        """A block that is made again, after a kill, gives the same file."""
        if self.kept is None or block * BLOCK < self.kept:
            np.save(self.features / f"{block:06d}.npy", features.float().cpu().numpy())

    def first(self, count: int) -> NDArray[np.float32]:
        """The features of images 0 to count - 1: [count, dim]. Raises UserError where some are gone."""
        try:
            blocks = [np.load(self.features / f"{block:06d}.npy") for block in range(-(-count // BLOCK))]
        except (OSError, ValueError, EOFError) as error:
            self.remove()
            raise UserError(f"{self.features}: features are gone ({error}); run the same command again") from None
        found: NDArray[np.float32] = np.concatenate(blocks)[:count]
        return found

    @property
    def lock(self) -> Path:
        """A file for jobs that make the same sums."""
        return self.path.with_suffix(".lock")

    def remove(self) -> None:
        """The sums and the features, when they have become a number."""
        self.path.unlink(missing_ok=True)
        self.lock.unlink(missing_ok=True)
        shutil.rmtree(self.features, ignore_errors=True)


def pass_over(
    count: int, look: Look, dim: int, store: Store, world: World, advance: Callable[[int], None] = lambda n: None
) -> Sums:
    """Sums of look(positions) for positions 0 to count - 1, each once.

    On 1, 2 or 3 processes they are the same but for the order of sums. Raises UserError where a feature is not finite.
    advance: told how many images are done.
    """
    sums, blocks = world.broadcast(store.open(dim) if world.is_main else None), -(-count // BLOCK)
    advance(sums.moments.count)
    while sums.blocks < blocks:
        before, last = sums.moments.count, min(sums.blocks + ROUND * world.size, blocks)
        mine = range(sums.blocks + world.rank, last, world.size)
        new = world.on_all(lambda mine=mine: _look_at(mine, count, look, dim, store))  # type: ignore[misc]
        sums = _together(last, sums, new, world)
        world.on_main(lambda sums=sums: store.save(sums))  # type: ignore[misc]
        advance(sums.moments.count - before)
        if STOPPED.is_set():
            raise KeyboardInterrupt
    assert sums.moments.count == count
    return sums


def _look_at(blocks: range, count: int, look: Look, dim: int, store: Store) -> Sums:
    every: list[Seen] = []
    for block in blocks:
        positions = torch.arange(block * BLOCK, min((block + 1) * BLOCK, count))
        seen = look(positions)
        if not torch.isfinite(seen.features).all():
            raise UserError(
                f"images {positions[0]} to {positions[-1]} give features that are not finite: it has diverged"
            )
        every.append(seen)
        store.keep(block, seen.features)
    found = Sums.empty(dim)
    found.add(every)
    return found


def _together(blocks: int, old: Sums, new: Sums, world: World) -> Sums:
    """old, the same everywhere, and what each process added."""
    counts = torch.tensor([new.moments.count, new.faithful], dtype=torch.float64)
    total, outer = torch.from_numpy(new.moments.total), torch.from_numpy(new.moments.outer)
    whole = torch.cat((counts, total, outer.flatten())).to(world.device)
    found, dim = world.all_reduce_sum_(whole).cpu().numpy(), len(total)
    moments = Moments(
        old.moments.count + int(found[0]),
        old.moments.total + found[2 : dim + 2],
        old.moments.outer + found[dim + 2 :].reshape(dim, dim),
    )
    return Sums(blocks, moments, old.faithful + int(found[1]))
