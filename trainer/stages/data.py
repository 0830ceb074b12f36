"""The data set of a config: its levels, its variant, and the stream of batches."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import UserError
from common.paths import Location, Url
from common.random_numbers import Purpose
from data_shards.format import manifest as manifests
from data_shards.format.manifest import Manifest
from data_shards.read.dsprites_variants import Painting, draw, load_painting
from data_shards.read.loader import CODE_RESOLUTION, Batch, Level, batches
from data_shards.read.sample_order import permutation
from data_shards.read.variant_names import Variant
from data_shards.remote.shard_cache import ShardCache
from trainer.config.schema import GanConfig, RunConfig, VaeConfig
from trainer.config.sections import DataConfig
from trainer.distributed.world import World
from trainer.labels import label_table
from trainer.labels.label_table import LabelTable
from trainer.steps.schedule import Now

log = logging.getLogger(__name__)


class Only(NamedTuple):
    """A part of a set. classes: what its images have in common; samples: their ids, int64 [M]."""

    classes: str
    samples: Tensor


@dataclass(frozen=True)
class Data:
    """An open data set.

    levels: by resolution, those that the phases read, and 64 px; wants_encoder_images: whether batches carry the 64 px
    images for an encoder; channels: of the images that training sees, which a variant may color; seed: of the order and
    of the variants' random numbers; only: the part of the set that `mixed` draws from, None for all.
    """

    levels: dict[int, Level]
    wants_encoder_images: bool
    channels: int
    variant: Variant
    painting: Painting | None
    seed: int
    only: Only | None = None

    @property
    def main(self) -> Level:
        """The largest level."""
        return self.levels[max(self.levels)]

    @property
    def identity(self) -> dict[str, str | int]:
        """Hashes of the manifest and of the painting, and channels: a resume and an evaluation must find the same."""
        identity: dict[str, str | int] = {"data": self.main.manifest.hash, "channels": self.channels}
        if self.painting is not None:
            identity["painting"] = self.painting.sha256
        return identity

    def batches(self, config: RunConfig, now: Now, start: int, world: World) -> Iterator[Batch]:
        """Yield this process's batches from stream position `start` on, endlessly, at the resolution of now."""
        return batches(
            self.levels[min(r for r in self.levels if r >= now.resolution)],
            self.levels[CODE_RESOLUTION] if self.wants_encoder_images else None,
            seed=self.seed,
            start=start,
            batch_size=now.batch_size,
            rank=world.rank,
            world_size=world.size,
            workers=config.data.workers,
            draw=None if self.variant == "plain" else self._draw,
            pin_memory=world.device.type == "cuda",
            cache=cache_of(config.data),
        )

    def batch_bytes_per_image(self, resolution: int) -> int:
        """Return the bytes that an image of a batch takes in a phase at a resolution, px, with its copy at 64 px."""
        read = max(resolution, CODE_RESOLUTION)
        encoder = CODE_RESOLUTION if self.wants_encoder_images and read != CODE_RESOLUTION else 0
        return self.channels * (read**2 + encoder**2)

    def _draw(self, sprites: Tensor, samples: Tensor, epochs: Tensor) -> Tensor:
        return draw(self.variant, sprites, samples, epochs, self.seed, self.painting)

    def at(self, samples: Tensor, seed: int, level: Level | None = None) -> Tensor:
        """Return the images of sample ids int64 [N] at 64 px, or of a level: uint8 [N, C, R, R].

        Variants are drawn as in epoch 0 of `seed`.
        """
        images = (level or self.levels[CODE_RESOLUTION]).read_samples(samples.numpy())
        return draw(self.variant, images, samples, torch.zeros_like(samples), seed, self.painting)

    def mixed(self, seed: int, positions: Tensor) -> Tensor:
        """Return sample ids at positions int64 [N] of the evaluation's order, a permutation that repeats."""
        order = permutation(seed, 0, self.count, Purpose.EVAL_ORDER)
        places = torch.from_numpy(order[positions.numpy() % self.count].copy())
        return places if self.only is None else self.only.samples[places]

    @property
    def count(self) -> int:
        """Number of images that `mixed` draws from."""
        return self.main.count if self.only is None else len(self.only.samples)


def open_data(
    config: DataConfig,
    seed: int,
    resolutions: Sequence[int] = (CODE_RESOLUTION,),
    wants_encoder_images: bool = True,
    file: Path | None = None,
) -> Data:
    """Open the shards at the resolutions of a schedule, and at 64 px. Raises UserError with key, value and remedy.

    Phases below 64 px read the 64 px level; of a set with enlarged images the lowest level that has their resolution.
    wants_encoder_images: batches carry 64 px images beside others. file: the config of a run or an export, which
    messages name.
    """
    folder = _folder(config.path, f"data.path in {file}" if file else "data.path")
    manifest = manifests.load(folder)
    _check_variant(config, folder, manifest.data_set)
    painting = _painting(config, file) if config.variant == "scream" else None
    wanted = {CODE_RESOLUTION, *(_level_for(r, manifest) for r in resolutions)}
    missing = sorted(wanted - set(manifest.resolutions))
    if missing:
        why = ", where the code is defined" if missing == [CODE_RESOLUTION] else ""
        remedy = manifests.how_to_add(manifest, folder, wanted)
        raise UserError(f"data.path: {folder} has no {', '.join(f'{r} px' for r in missing)}{why}; {remedy}")
    levels = {r: Level(folder, manifest, r) for r in sorted(wanted)}
    _tell_of_no_checksums(levels.values())
    channels = manifest.channels if config.variant == "plain" else 3
    return Data(levels, wants_encoder_images, channels, config.variant, painting, seed)


def labels_of(config: VaeConfig | GanConfig, data: Data) -> LabelTable | None:
    """Read the labels that a config names from its set; None where it names none. Raises a UserError as `read` does."""
    if not isinstance(config, GanConfig) or config.labels is None:
        return None
    return label_table.read(data.main, config.labels, "labels", config.data.path)


def _level_for(resolution: int, manifest: Manifest) -> int:
    """The resolution of the level that a phase at `resolution` px reads, and makes box means of below its resolution.

    Below 64 px that is 64 px; where it may be an enlargement, whose box means are blurred, the lowest level that will
    do.
    """
    stored = [r for r in manifest.resolutions if resolution <= r < CODE_RESOLUTION] if manifest.enlarged else []
    return min(stored, default=max(resolution, CODE_RESOLUTION))


def _tell_of_no_checksums(levels: Collection[Level]) -> None:
    """Say once that what comes over a network from a set of an older version is not checked."""
    first = next(iter(levels))
    if isinstance(first.root, Url) and not all(level.is_checked for level in levels):
        on_main_process = os.environ.get("RANK", "0") == "0"
        log.log(
            logging.WARNING if on_main_process else logging.DEBUG,
            "warning: %s: its index has no crc32c, as of a set of an older version: what the network damages is seen "
            "only where it cannot be decoded; make the set again to have every image checked",
            first.root,
        )


def cache_of(config: DataConfig) -> ShardCache | None:
    """Return the cache of shards on this node, ready to be written; None without one.

    Raises UserError where its folder cannot be written, or is within the set.
    """
    if config.cache is None:
        return None
    path = config.cache.path.absolute()
    if isinstance(config.path, Path) and path.is_relative_to(config.path.absolute()):
        raise UserError(f"data.cache.path: {path} is within data.path; name a folder on a disk of the node")
    cache = ShardCache(path, int(config.cache.gigabytes * 1e9))
    cache.prepare()
    return cache


def _folder(folder: Location, key: str) -> Location:
    """Return where the shards are. Raises a UserError where it is a folder that is not there."""
    if isinstance(folder, Path) and not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder{manifests.nowhere(folder)} ({key}); correct the path, go to where it is right, "
            "or make the set with `python -m data_shards make`"
        )
    return folder


def _painting(config: DataConfig, file: Path | None) -> Painting:
    """Open the painting. Raises a UserError where it is none, with the file that names it."""
    try:
        return load_painting(config.painting)
    except UserError as error:
        raise UserError(f"{error}{f' (in {file})' if file else ''}") from None


def _check_variant(config: DataConfig, folder: Location, data_set: str) -> None:
    """Raise a UserError where the variant does not fit the data set, or the painting the variant."""
    if config.variant != "plain" and data_set != "dsprites":
        raise UserError(
            f"data.variant: {config.variant} draws on dSprites, but {folder} holds {data_set}; set data.variant=plain"
        )
    if config.painting is not None and config.variant != "scream":
        raise UserError(
            f"data.painting: {config.painting}, but data.variant is {config.variant}, which has none; set "
            "data.painting=null, or data.variant=scream"
        )
