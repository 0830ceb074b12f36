"""What a pass over images leaves, saved as it goes on: a job that was stopped goes on from there, on any number of
processes. Images come in blocks of 64 positions, which are split over the processes whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from data_shards.errors import UserError
from data_shards.publish import publish
from trainer.world import World

from .frechet import Moments

BLOCK = 64  # positions; a block's images do not depend on which process makes it
ROUND = 8  # blocks of each process between two saves
Look = Callable[[Tensor], Tensor]


@dataclass
class Sums:
    """Of the first `blocks` blocks."""

    blocks: int
    moments: Moments

    @classmethod
    def empty(cls, dim: int) -> Sums:
        return cls(0, Moments.empty(dim))


class Store:
    """FOLDER/KEY.safetensors, the sums so far, and FOLDER/KEY/, the features of every block as BLOCK.npy.

    facts: everything that the images and their features depend on; the key is its hash, so that another pass never
    goes on from these sums.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], features: bool) -> None:
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        self.path, self.features = folder / f"{key}.safetensors", folder / key if features else None

    def open(self, dim: int) -> Sums:
        """The sums that are there, or none. A file that is not whole counts as none: it is made again."""
        (self.features or self.path.parent).mkdir(parents=True, exist_ok=True)
        try:
            found = load(self.path.read_bytes())
            moments = Moments(int(found["count"]), found["total"].numpy(), found["outer"].numpy())
            return Sums(int(found["blocks"]), moments)
        except (FileNotFoundError, SafetensorError, KeyError):
            return Sums.empty(dim)

    def save(self, sums: Sums) -> None:
        """Of the main process."""
        moments = sums.moments
        tensors = {
            "blocks": torch.tensor(sums.blocks),
            "count": torch.tensor(moments.count),
            "total": torch.from_numpy(moments.total),
            "outer": torch.from_numpy(moments.outer),
        }
        publish(self.path, save(tensors))

    def keep(self, block: int, features: Tensor) -> None:
        """A block that is made again, after a kill, gives the same file."""
        if self.features is not None:
            np.save(self.features / f"{block:06d}.npy", features.float().cpu().numpy())


def pass_over(
    count: int, look: Look, dim: int, store: Store, world: World, advance: Callable[[int], None] = lambda n: None
) -> Sums:
    """Moments of look(positions), [b, dim], for positions 0 to count - 1, each once.

    On 1, 2 or 3 processes they are the same but for the order of sums. Raises UserError where a feature is not finite.
    advance: told how many images are done.
    """
    sums, blocks = world.from_main(store.open(dim) if world.is_main else None), -(-count // BLOCK)
    advance(sums.moments.count)
    while sums.blocks < blocks:
        before, last = sums.moments.count, min(sums.blocks + ROUND * world.size, blocks)
        mine = range(sums.blocks + world.rank, last, world.size)
        new = world.together(lambda mine=mine: _look_at(mine, count, look, dim, store))  # type: ignore[misc]
        sums = Sums(last, _together(sums.moments, new, world))
        world.together(lambda sums=sums: store.save(sums) if world.is_main else None)  # type: ignore[misc]
        advance(sums.moments.count - before)
    assert sums.moments.count == count
    return sums


def _look_at(blocks: range, count: int, look: Look, dim: int, store: Store) -> Moments:
    found = Moments.empty(dim)
    for block in blocks:
        positions = torch.arange(block * BLOCK, min((block + 1) * BLOCK, count))
        features = look(positions)
        if not torch.isfinite(features).all():
            raise UserError(
                f"images {positions[0]} to {positions[-1]} give features that are not finite: it has diverged"
            )
        found.add(features)
        store.keep(block, features)
    return found


def _together(old: Moments, new: Moments, world: World) -> Moments:
    """old, the same everywhere, and what each process added."""
    count = torch.tensor([new.count], dtype=torch.float64)
    whole = torch.cat((count, torch.from_numpy(new.total), torch.from_numpy(new.outer).flatten())).to(world.device)
    found, dim = world.sum_(whole).cpu().numpy(), len(new.total)
    return Moments(
        old.count + int(found[0]),
        old.total + found[1 : dim + 1],
        old.outer + found[dim + 1 :].reshape(dim, dim),
    )
