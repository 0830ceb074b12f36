"""Read batches from shards by position: sample i of the infinite stream is a pure function of (seed, i)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cached_property
from multiprocessing import active_children
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from common.arrays import Float64, Int64, UInt8
from common.errors import UserError, first_line, out_of_memory
from data_shards.format import index, manifest
from data_shards.format.image_codec import decode
from data_shards.format.manifest import CODE_RESOLUTION as CODE_RESOLUTION
from data_shards.format.manifest import Manifest
from data_shards.format.pyramid import box_mean

from . import shared_memory, worker_errors
from .sample_order import samples_at
from .worker_signals import follow_parent

Draw = Callable[[Tensor, Tensor, Tensor], Tensor]
PREFETCH = 4  # batches that a worker keeps ready
_MAX_OPEN = 128  # tars
_THREADED_FROM = 256  # px: smaller images decode faster than a thread starts


class Level:
    """One resolution of a set, read by sample id. Safe to use in forked and spawned workers.

    count: samples in the set; channels: 1 or 3. Raises UserError where an index or a tar is missing or has changed.
    """

    def __init__(self, root: Path, stored: Manifest, resolution: int) -> None:
        self.root, self.manifest, self.resolution = Path(root), stored, resolution
        self.count, self.channels = stored.count, stored.channels
        self._info = stored.level(resolution)
        table = index.load(self.root, self._info)
        index.check_shards(self.root, self._info)
        self._table = {name: table[name] for name in ("shard", "offset", "length")}
        self._handles: dict[int, int] = {}

    @cached_property
    def _top(self) -> index.Table:
        return index.load(self.root, self.manifest.level(self.manifest.resolutions[0]))

    @property
    def factors(self) -> Int64 | None:
        """Factor classes int64 [N, F], columns as in manifest.factors; None where the set has none."""
        return self._top.get("factors")

    @property
    def factor_values(self) -> Float64 | None:
        """Values float64 [N, V] of the continuous factors, in the order of manifest.factors; None without any."""
        return self._top.get("factor_values")

    @property
    def labels(self) -> dict[str, Int64]:
        """Labels int64 [N] by name."""
        return index.labels_of(self._top)

    def read_samples(self, samples: Int64) -> Tensor:
        """Decode the images of sample ids int64 [B]: uint8 [B, C, R, R]. Raises UserError where one is damaged.

        Large images are decoded by as many threads as torch has: one in a loader's worker.
        """
        images = torch.empty((len(samples), self.channels, self.resolution, self.resolution), dtype=torch.uint8)
        stored = ((self.read_bytes(i), i, image) for i, image in zip(samples.tolist(), images.numpy(), strict=True))
        threads = torch.get_num_threads() if self.resolution >= _THREADED_FROM else 1
        with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
            decode_all = pool.map if pool else map
            list(decode_all(lambda args: self._decode_into(*args), stored))
        return images

    def _decode_into(self, data: bytes, sample: int, image: UInt8) -> None:
        """Decode the file of a sample into image uint8 [C, R, R]."""
        try:
            pixels = decode(data, self.channels)
        except (RuntimeError, ValueError) as error:
            if out_of_memory(error):
                raise
            raise self._broken(sample, f"cannot be decoded ({first_line(error)})") from None
        if pixels.dtype != torch.uint8:
            raise self._broken(sample, f"has pixels of {pixels.dtype}, not of 8 bits")
        if pixels.shape != image.shape:
            raise self._broken(sample, f"is {tuple(pixels.shape)}, not {image.shape}")
        image[...] = pixels.numpy()

    def read_bytes(self, sample: int) -> bytes:
        """Read the stored image file of one sample. Raises UserError where its tar is cut short."""
        shard, offset, length = (int(self._table[name][sample]) for name in ("shard", "offset", "length"))
        data = os.pread(self._handle(shard), length, offset)
        if len(data) != length:
            raise self._broken(sample, "is cut short")
        return data

    def _handle(self, shard: int) -> int:
        """Open a tar, or return the open one. pread has no shared position, so a fork may inherit the handle."""
        if shard not in self._handles:
            if len(self._handles) >= _MAX_OPEN:
                self.close()
            self._handles[shard] = os.open(self.root / self._info.folder / self._info.shards[shard].name, os.O_RDONLY)
        return self._handles[shard]

    def close(self) -> None:
        """Close the open tars; the next read opens them again."""
        while self._handles:
            os.close(self._handles.popitem()[1])

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_handles": {}}

    def _broken(self, sample: int, what: str) -> UserError:
        """The error about a damaged sample, with tar, byte and remedy."""
        path = self.root / self._info.folder / self._info.shards[int(self._table["shard"][sample])].name
        where = f"sample {sample} at byte {int(self._table['offset'][sample])}"
        return UserError(
            f"{path}: {where} {what}; run `python -m data_shards check {self.root}` and copy or make the shard again"
        )


def open_dataset(path: Path | str, resolution: int) -> Level:
    """Open one resolution of the set at `path`. Raises UserError where the set is incomplete or changed."""
    return Level(Path(path), manifest.load(Path(path)), resolution)


class Batch(NamedTuple):
    """One process's share of an iteration.

    positions, samples, epochs: int64 [b]. images: uint8 [b, C, R, R]. encoder_images: the same images at 64 px, or None
    where no encoder looks at them.
    """

    positions: Tensor
    samples: Tensor
    epochs: Tensor
    images: Tensor
    encoder_images: Tensor | None


def batches(
    main: Level,
    encoder_level: Level | None = None,
    *,
    seed: int,
    start: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    draw: Draw | None = None,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Yield this rank's batches from stream position `start` on, without end.

    Iteration k holds the positions start + k * batch_size + [rank * b, (rank + 1) * b), where b = batch_size /
    world_size. encoder_level: the 64 px level of the same set, for Batch.encoder_images. draw(sprites, samples, epochs)
    -> images is applied in the worker; encoder_images are then box means of what was drawn. Raises UserError where
    batch_size does not divide by world_size, or a sample is damaged.
    """
    if batch_size % world_size:
        raise UserError(f"batch size {batch_size} does not divide by {world_size} processes; choose a multiple")
    loader = DataLoader(
        _Reader(main, encoder_level, seed, draw),
        batch_size=None,
        sampler=_Positions(start, batch_size, rank, world_size),
        collate_fn=cast(Any, _unchanged),
        num_workers=workers,
        worker_init_fn=follow_parent,
        pin_memory=pin_memory,
        prefetch_factor=PREFETCH if workers else None,
    )
    same = encoder_level is not None and main.resolution == CODE_RESOLUTION
    return _unwrapped(loader, same, torch.cuda.current_device() if pin_memory else None)


def _unwrapped(loader: DataLoader[Batch | str], same: bool, gpu: int | None) -> Iterator[Batch]:
    """Yield what the reader returned, or raise what it reports.

    same: the encoder's images are the batch's own; gpu: whose memory is pinned for, as threads have a GPU each.
    """
    if gpu is not None:
        torch.cuda.set_device(gpu)
    before = set(active_children())
    items = _started(loader)
    workers = set(active_children()) - before
    while True:
        try:
            item = next(items)
        except (RuntimeError, OSError) as error:
            dead = [worker.exitcode for worker in workers if worker.exitcode]
            problem = f"data.workers: a worker {worker_errors.how_ended(dead[0])}" if dead else None
            problem = problem or worker_errors.no_resource(error)
            if problem is None:
                raise
            raise UserError(problem) from None
        if isinstance(item, str):
            raise UserError(item)
        yield item._replace(encoder_images=item.images) if same else item


def _started(loader: DataLoader[Batch | str]) -> Iterator[Batch | str]:
    """Start the workers of a loader. Raises a UserError where the machine refuses one."""
    try:
        return iter(loader)
    except OSError as error:
        complain, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
        error.__traceback__ = None  # torch's half-built iterator is deleted with it, and prints a traceback then
        sys.unraisablehook = complain
        raise worker_errors.not_started(error) from None


class _Positions(Sampler[Int64]):
    """Position ranges of one rank, without end."""

    def __init__(self, start: int, batch_size: int, rank: int, world_size: int) -> None:
        self.share = batch_size // world_size
        self.first, self.step = start + rank * self.share, batch_size

    def __iter__(self) -> Iterator[Int64]:
        first = self.first
        while True:
            yield np.arange(first, first + self.share)
            first += self.step


class _Reader(Dataset[Batch | str]):
    """Reads the batch at some positions. A UserError is returned as its message: torch would wrap it in a traceback."""

    def __init__(self, main: Level, encoder_level: Level | None, seed: int, draw: Draw | None) -> None:
        self.main, self.seed, self.draw = main, seed, draw
        self.encoder_level = encoder_level if main.resolution != CODE_RESOLUTION else None

    def __getitem__(self, positions: Int64) -> Batch | str:
        try:
            batch = self._read(positions)
            if get_worker_info() is not None:
                shared_memory.move_to(batch)
            return batch
        except UserError as error:
            return str(error)
        except (MemoryError, RuntimeError) as error:
            problem = worker_errors.no_resource(error)
            if problem is None:
                raise
            return problem
        except OSError as error:
            where = error.filename or self.main.root
            remedy = worker_errors.REMEDIES.get(error.errno or 0, "restore the shard and run the same command again")
            return f"{where}: {error.strerror}; {remedy}"

    def _read(self, positions: Int64) -> Batch:
        samples, epochs = samples_at(self.seed, positions, self.main.count)
        ids = (torch.from_numpy(positions), torch.from_numpy(samples), torch.from_numpy(epochs))
        images = self.main.read_samples(samples)
        encoder_images = None
        if self.draw is not None:
            images = self.draw(images, ids[1], ids[2])
            if self.encoder_level is not None:
                encoder_images = box_mean(images, CODE_RESOLUTION)
        elif self.encoder_level is not None:
            encoder_images = self.encoder_level.read_samples(samples)
        return Batch(*ids, images, encoder_images)


def _unchanged(batch: Batch | str) -> Batch | str:
    """Keep DataLoader from converting what the reader returns."""
    return batch
