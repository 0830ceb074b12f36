"""Sums of features and of sharpness over many images, saved as they grow: a job that was stopped resumes from there.

It may resume with any number of processes. Images come in blocks of 64 positions, which are split over the processes
whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from common.arrays import Float32
from common.atomic_writes import publish
from common.errors import UserError
from evaluation.inputs.images import BLOCK
from trainer.distributed.world import World

from .frechet import Moments
from .sharpness import SharpnessSums

ROUND = 8  # blocks of each process between two saves
STOPPED = Event()  # set by a signal, whose KeyboardInterrupt is lost where it falls into a callback of C


class Extracted(NamedTuple):
    """What is extracted from b images.

    features: [b, dim], of a network; faithful: bool [b], whether each is a faithful sprite, None where fidelity is not
    measured; sharpness: sums at each of the store's resolutions, none for images whose sharpness is not measured.
    """

    features: Tensor
    faithful: Tensor | None = None
    sharpness: tuple[SharpnessSums, ...] = ()


FeaturesAt = Callable[[Tensor], Extracted]
"""positions int64 [b] -> what is extracted from the images there."""


@dataclass
class Sums:
    """Sums over the images of the first `blocks` blocks.

    faithful: number of faithful sprites among them; sharpness: by resolution.
    """

    blocks: int
    moments: Moments
    faithful: int = 0
    sharpness: dict[int, SharpnessSums] = field(default_factory=dict)

    @classmethod
    def empty(cls, dim: int, resolutions: Sequence[int] = ()) -> Sums:
        """Return the sums of no images. resolutions: those at which sharpness is measured, px."""
        return cls(0, Moments.empty(dim), 0, {size: SharpnessSums.empty(size) for size in resolutions})

    def add(self, blocks: Sequence[Extracted]) -> None:
        """Add images all at once: the outer products of many features are one product of matrices."""
        if blocks:
            self.moments.add(torch.cat([block.features for block in blocks]))
        self.faithful += sum(int(block.faithful.sum()) for block in blocks if block.faithful is not None)
        for one in (one for block in blocks for one in block.sharpness):
            self.sharpness[one.resolution].numbers += one.numbers


class Store:
    """FOLDER/KEY.safetensors, the sums so far, and FOLDER/KEY/, the features of the first blocks as BLOCK.npy.

    identity: everything that the images and their features depend on; the key is its hash, so that another pass never
    resumes from these sums. kept_images: number of images whose features are kept; None for all. resolutions: those at
    which sharpness is measured, px.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], kept_images: int | None, resolutions: Sequence[int] = ()
    ) -> None:
        key = hashlib.sha256(json.dumps([identity, kept_images], sort_keys=True).encode()).hexdigest()[:16]
        self.identity, self.kept_images, self.resolutions = identity, kept_images, tuple(resolutions)
        self.path, self.features = folder / f"{key}.safetensors", folder / key

    def open(self, dim: int) -> Sums:
        """Load the sums that are there, or empty ones.

        A damaged file counts as none: its images are made again. So does one without the sharpness at these
        resolutions, such as those of version 0.2.0.
        """
        self.features.mkdir(parents=True, exist_ok=True)
        try:
            tensors = load(self.path.read_bytes())
            moments = Moments(int(tensors["count"]), tensors["total"].numpy(), tensors["outer"].numpy())
            sharpness = {size: SharpnessSums(size, tensors[f"sharpness_{size}"].numpy()) for size in self.resolutions}
            return Sums(int(tensors["blocks"]), moments, int(tensors["faithful"]), sharpness)
        except (FileNotFoundError, SafetensorError, KeyError):
            return Sums.empty(dim, self.resolutions)

    def save(self, sums: Sums) -> None:
        """Save the sums so far. Only the main process calls it."""
        moments = sums.moments
        tensors = {
            "blocks": torch.tensor(sums.blocks),
            "count": torch.tensor(moments.count),
            "faithful": torch.tensor(sums.faithful),
            "total": torch.from_numpy(moments.total),
            "outer": torch.from_numpy(moments.outer),
            **{f"sharpness_{size}": torch.from_numpy(one.numbers) for size, one in sums.sharpness.items()},
        }
        publish(self.path, save(tensors))

    def save_features(self, block: int, features: Tensor) -> None:
        """Save the features of a block. One that is made again, after a kill, gives the same file."""
        if self.kept_images is None or block * BLOCK < self.kept_images:
            np.save(self.features / f"{block:06d}.npy", features.float().cpu().numpy())

    def load_features(self, count: int) -> Float32:
        """Load the features of images 0 to count - 1: [count, dim]. Raises UserError where some are gone."""
        try:
            blocks = [np.load(self.features / f"{block:06d}.npy") for block in range(-(-count // BLOCK))]
        except (OSError, ValueError, EOFError) as error:
            self.remove()
            raise UserError(f"{self.features}: features are gone ({error}); run the same command again") from None
        features: Float32 = np.concatenate(blocks)[:count]
        return features

    @property
    def lock(self) -> Path:
        """The lock file for jobs that make the same sums."""
        return self.path.with_suffix(".lock")

    def remove(self) -> None:
        """Remove the sums and the features, when the number is recorded."""
        self.path.unlink(missing_ok=True)
        self.lock.unlink(missing_ok=True)
        shutil.rmtree(self.features, ignore_errors=True)


def pass_over(
    count: int,
    features_at: FeaturesAt,
    dim: int,
    store: Store,
    world: World,
    advance: Callable[[int], None] = lambda images: None,
) -> Sums:
    """Sum features and sharpness of images 0 to count - 1, each once, from where the store's sums end.

    1, 2 or 3 processes differ in the order of summation alone. advance(n) is called when n more images are
    done. Raises UserError where a feature is not finite.
    """
    sums = world.broadcast(store.open(dim) if world.is_main else None)
    blocks = -(-count // BLOCK)
    advance(sums.moments.count)
    while sums.blocks < blocks:
        before, last = sums.moments.count, min(sums.blocks + ROUND * world.size, blocks)
        mine = range(sums.blocks + world.rank, last, world.size)
        new = world.on_all(lambda mine=mine: _sum_blocks(mine, count, features_at, dim, store))  # type: ignore[misc]
        sums = _add_over_processes(last, sums, new, world)
        world.on_main(lambda sums=sums: store.save(sums))  # type: ignore[misc]
        advance(sums.moments.count - before)
        if STOPPED.is_set():
            raise KeyboardInterrupt
    assert sums.moments.count == count
    return sums


def _sum_blocks(blocks: range, count: int, features_at: FeaturesAt, dim: int, store: Store) -> Sums:
    """Sum features and sharpness of some blocks on this process, and save the features."""
    extracted: list[Extracted] = []
    for block in blocks:
        positions = torch.arange(block * BLOCK, min((block + 1) * BLOCK, count))
        one = features_at(positions)
        if not torch.isfinite(one.features).all():
            raise UserError(
                f"images {positions[0]} to {positions[-1]} give features that are not finite, though every pixel is: "
                "the network of the features is damaged; fetch its weights again, or restore what was installed"
            )
        extracted.append(one)
        store.save_features(block, one.features)
    sums = Sums.empty(dim, store.resolutions)
    sums.add(extracted)
    return sums


def _add_over_processes(blocks: int, old: Sums, new: Sums, world: World) -> Sums:
    """Return old, the same on every process, plus the new sums of every process. blocks: done so far."""
    counts = np.array([new.moments.count, new.faithful], np.float64)
    sharpness = [one.numbers for one in new.sharpness.values()]
    parts = [counts, new.moments.total, new.moments.outer.ravel(), *sharpness]
    packed = torch.from_numpy(np.concatenate(parts)).to(world.device)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    counts, total, outer, *sharpness = np.split(world.all_reduce_sum_(packed).cpu().numpy(), ends)
    moments = Moments(
        old.moments.count + int(counts[0]),
        old.moments.total + total,
        old.moments.outer + outer.reshape(old.moments.outer.shape),
    )
    summed = {
        size: SharpnessSums(size, one.numbers + more)
        for (size, one), more in zip(old.sharpness.items(), sharpness, strict=True)
    }
    return Sums(blocks, moments, old.faithful + int(counts[1]), summed)
