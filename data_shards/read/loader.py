"""Read batches from shards by position: sample i of the infinite stream is a pure function of (seed, i)."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cached_property
from multiprocessing import active_children
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from common.arrays import Float64, Int64, UInt8
from common.errors import Fault, UserError, first_line, out_of_memory
from common.paths import Location, Url
from data_shards.format import index, manifest
from data_shards.format.image_codec import decode
from data_shards.format.manifest import CODE_RESOLUTION as CODE_RESOLUTION
from data_shards.format.manifest import Manifest
from data_shards.format.pyramid import box_mean
from data_shards.remote.fetcher import Fetcher, Wanted
from data_shards.remote.requests import refuse_without_ranges
from data_shards.remote.shard_cache import ShardCache

from . import shared_memory, worker_errors
from .sample_order import samples_at
from .shard_reader import BadSample, Place, ShardReader
from .worker_signals import follow_parent

Draw = Callable[[Tensor, Tensor, Tensor], Tensor]
PREFETCH = 4  # batches that a worker keeps ready
_THREADED_FROM = 256  # px: smaller images decode faster than a thread starts


class Level:
    """One resolution of a set, read by sample id. Safe to use in forked and spawned workers.

    root: the folder of the set or its URL; cache: where whole shards are looked for first; count: samples in the set;
    channels: 1 or 3. Raises UserError where an index or a tar is missing or has changed.
    """

    def __init__(self, root: Location, stored: Manifest, resolution: int, cache: ShardCache | None = None) -> None:
        self.root, self.manifest, self.resolution = root, stored, resolution
        self.count, self.channels = stored.count, stored.channels
        self._info, self._cache = stored.level(resolution), cache
        table = index.load(root, self._info)
        if isinstance(root, Url):
            refuse_without_ranges(root / manifest.FILE)
        else:
            index.check_shards(root, self._info)
        self._table = {name: table[name] for name in ("shard", "offset", "length", index.CRC32C) if name in table}
        self._open()

    def _open(self) -> None:
        cached = self._cache.folder(self.manifest.hash, self.resolution) if self._cache else None
        names = [shard.name for shard in self._info.shards]
        self._reader = ShardReader(self.root / self._info.folder, names, cached)

    @property
    def is_checked(self) -> bool:
        """Whether the index has a checksum of every image, by which one from a network is checked."""
        return index.CRC32C in self._table

    def kept_in(self, cache: ShardCache) -> Level:
        """Return the level as it reads the shards that are in a cache from there."""
        level = copy.copy(self)
        level._cache = cache
        level._open()
        return level

    def wanted(self, samples: Int64) -> list[tuple[int, Wanted]]:
        """List the shards of sample ids int64 [N] for the level's cache, each with the place where it is first needed.

        A place is a number in range(N).
        """
        assert self._cache is not None
        folder = self._cache.folder(self.manifest.hash, self.resolution)
        shards, first = np.unique(self._table["shard"][samples], return_index=True)
        wanted = []
        for number, place in zip(shards.tolist(), first.tolist(), strict=True):
            shard = self._info.shards[number]
            source = self.root / self._info.folder / shard.name
            wanted.append((place, Wanted(source, folder / shard.name, shard.bytes, shard.sha256)))
        return wanted

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
        stored = zip(self.read_files(samples.tolist()), samples.tolist(), images.numpy(), strict=True)
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

    def read_files(self, samples: Sequence[int]) -> Iterator[bytes]:
        """Yield the stored image files of some samples. Raises UserError where one is damaged or cannot be read."""
        try:
            yield from self._reader.read([self._place(sample) for sample in samples])
        except BadSample as error:
            raise self._broken(error.place.sample, error.what) from None

    def _place(self, sample: int) -> Place:
        shard, offset, length = (int(self._table[name][sample]) for name in ("shard", "offset", "length"))
        return Place(sample, shard, offset, length, int(self._table[index.CRC32C][sample]) if self.is_checked else None)

    def close(self) -> None:
        """Close the open tars; the next read opens them again."""
        self._reader.close()

    def _broken(self, sample: int, what: str) -> UserError:
        """The error about a damaged sample, with tar, byte and remedy."""
        path = self._reader.folder / self._info.shards[int(self._table["shard"][sample])].name
        if problem := manifest.changed(self.root, self.manifest):
            return UserError(problem)
        where = f"sample {sample} at byte {int(self._table['offset'][sample])}"
        return UserError(
            f"{path}: {where} {what}; run `python -m data_shards check {self.root}` and copy or make the shard again"
        )


def open_dataset(path: Location, resolution: int) -> Level:
    """Open one resolution of the set at a folder or URL. Raises UserError where the set is incomplete or changed."""
    return Level(path, manifest.load(path), resolution)


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
    cache: ShardCache | None = None,
) -> Iterator[Batch]:
    """Yield this rank's batches from stream position `start` on, without end.

    Iteration k holds the positions start + k * batch_size + [rank * b, (rank + 1) * b), where b = batch_size /
    world_size. encoder_level: the 64 px level of the same set, for Batch.encoder_images. draw(sprites, samples, epochs)
    -> images is applied in the worker; encoder_images are then box means of what was drawn. cache: keeps whole shards
    on this node, fetched while the batches are read. Raises UserError where batch_size does not divide by world_size,
    or a sample is damaged.
    """
    if batch_size % world_size:
        raise UserError(f"batch size {batch_size} does not divide by {world_size} processes; choose a multiple")
    if cache is not None:
        main, encoder_level = main.kept_in(cache), encoder_level and encoder_level.kept_in(cache)
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
    yielded = _unwrapped(loader, same, torch.cuda.current_device() if pin_memory else None)
    return yielded if cache is None else _beside(_fetcher(cache, main, encoder_level, seed, start), yielded)


def _fetcher(cache: ShardCache, main: Level, encoder_level: Level | None, seed: int, start: int) -> Fetcher:
    """Return what fetches the shards of the levels, those first that positions from `start` on need first.

    One epoch from there needs every shard.
    """
    samples, _ = samples_at(seed, np.arange(start, start + main.count), main.count)
    levels = {level.resolution: level for level in (main, encoder_level) if level is not None}
    wanted = sorted((pair for level in levels.values() for pair in level.wanted(samples)), key=lambda pair: pair[0])
    return Fetcher(cache, [shard for _, shard in wanted])


def _beside(fetcher: Fetcher, batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield batches while shards are fetched. Raises a UserError once a shard is known to be damaged."""
    first = next(batches)  # the workers are forked before there is a thread
    fetcher.start()
    try:
        yield first
        for batch in batches:
            if fetcher.error is not None:
                raise fetcher.error
            yield batch
    finally:
        fetcher.stop()


Problem = UserError | Fault


def _unwrapped(loader: DataLoader[Batch | Problem], same: bool, gpu: int | None) -> Iterator[Batch]:
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
        if isinstance(item, Exception):
            raise item
        yield item._replace(encoder_images=item.images) if same else item


def _started(loader: DataLoader[Batch | Problem]) -> Iterator[Batch | Problem]:
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


class _Reader(Dataset[Batch | Problem]):
    """Reads the batch at some positions. A problem is returned, not raised: torch would wrap it in a traceback."""

    def __init__(self, main: Level, encoder_level: Level | None, seed: int, draw: Draw | None) -> None:
        self.main, self.seed, self.draw = main, seed, draw
        self.encoder_level = encoder_level if main.resolution != CODE_RESOLUTION else None

    def __getitem__(self, positions: Int64) -> Batch | Problem:
        try:
            batch = self._read(positions)
            if get_worker_info() is not None:
                shared_memory.move_to(batch)
            return batch
        except (UserError, Fault) as error:
            return error
        except (MemoryError, RuntimeError) as error:
            problem = worker_errors.no_resource(error)
            if problem is None:
                raise
            return UserError(problem)
        except OSError as error:
            where = error.filename or self.main.root
            remedy = worker_errors.REMEDIES.get(error.errno or 0, "restore the shard and run the same command again")
            return UserError(f"{where}: {error.strerror}; {remedy}")

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


def _unchanged(batch: Batch | Problem) -> Batch | Problem:
    """Keep DataLoader from converting what the reader returns."""
    return batch
