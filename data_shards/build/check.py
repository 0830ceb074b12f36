"""Check every byte of a set: hashes, counts, keys, pixels, and lower levels against the largest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from common.arrays import UInt8
from common.errors import Fault, UserError, first_line
from common.paths import Location, Url
from common.process_pool import ordered_map
from data_shards.format import index, manifest
from data_shards.format.image_codec import decode
from data_shards.format.manifest import Manifest
from data_shards.format.pyramid import pyramid
from data_shards.format.tars import Entry, entries, read, sha256
from data_shards.remote.fetcher import Wanted, fetch

from .foreign_tars import image_fault


@dataclass(frozen=True)
class _Job:
    """Shard `number` of a set, at all its levels. root: the set's folder or URL."""

    root: Location
    stored: Manifest
    number: int


@dataclass(frozen=True)
class _Tar:
    """One level of a shard. path: where it is in the set; file: its bytes on a disk."""

    path: Location
    file: Path
    resolution: int
    entries: list[Entry]


def check(root: Location, workers: int = 1) -> Iterator[list[str]]:
    """Yield the problems of each shard (all levels of it), in order; the first list is about the set as a whole.

    Shards at a URL are fetched one by one for it, and not kept. Files that do not belong to such a set are not seen.
    """
    stored = manifest.load(root)
    yield _check_set(root, stored)
    shards = {len(info.shards) for info in stored.levels.values()}
    jobs = (_Job(root, stored, number) for number in range(min(shards)))
    yield from ordered_map(_check_shard, jobs, workers)


def _check_set(root: Location, stored: Manifest) -> list[str]:
    """Problems that show without opening a tar: numbers of samples, indices, sizes, foreign files."""
    problems: list[str] = []
    top = stored.level(stored.resolutions[0])
    for info in stored.levels.values():
        folder, count = root / info.folder, sum(shard.samples for shard in info.shards)
        if [shard.samples for shard in info.shards] != [shard.samples for shard in top.shards]:
            problems.append(f"{folder}: its shards hold other numbers of samples than the largest level's")
        if count != stored.count:
            problems.append(f"{folder}: holds {count} samples, not {stored.count}")
        try:
            index.load(root, info)
            if isinstance(root, Path):
                index.check_shards(root, info)
        except UserError as error:
            problems += error.problems or [str(error)]
        except Fault as error:
            problems.append(str(error))
    return problems


def _check_shard(job: _Job) -> list[str]:
    """Problems of one shard at every level. Runs in a worker process."""
    torch.set_num_threads(1)
    problems: list[str] = []
    tars: list[_Tar] = []  # the largest level first
    with TemporaryDirectory(prefix="idgan-check-") as scratch:
        for resolution in job.stored.resolutions:
            info = job.stored.level(resolution)
            shard = info.shards[job.number]
            path = job.root / info.folder / shard.name
            try:
                file = path if isinstance(path, Path) else _fetched(path, shard, Path(scratch, f"{resolution}.tar"))
                problems += _check_hash(file, path, shard, job.root)
                tars.append(_Tar(path, file, resolution, entries(file, job.stored.recipe.get("image"))))
            except (UserError, Fault) as error:
                problems.append(str(error))
            except FileNotFoundError:
                problems.append(f"{path}: missing; copy it again")
        return problems or _check_keys(tars) or _check_images(job.stored, tars)


def _fetched(url: Url, shard: manifest.Shard, file: Path) -> Path:
    """Fetch a shard from a URL to a file on this machine's disk."""
    fetch(Wanted(url, file, shard.bytes, shard.sha256))
    return file


def _check_hash(file: Path, path: Location, shard: manifest.Shard, root: Location) -> list[str]:
    digest = sha256(file)
    if digest == shard.sha256:
        return []
    wanted = f", or {manifest.how_to_index(root)} if the change is wanted" if isinstance(root, Path) else ""
    remedy = f"copy it again{wanted}"
    return [f"{path}: sha256 is {digest}, the manifest has {shard.sha256}; {remedy}"]


def _check_keys(tars: list[_Tar]) -> list[str]:
    top = [entry.key for entry in tars[0].entries]
    return [
        f"{tar.path}: its keys are not those of the largest level; make the set again"
        for tar in tars
        if [entry.key for entry in tar.entries] != top
    ]


def _check_images(stored: Manifest, tars: list[_Tar]) -> list[str]:
    """Decode every image; a lower level of a lossless set is the box mean of the largest."""
    problems: list[str] = []
    lossless = stored.codec is not None and stored.codec.lossless
    with ExitStack() as stack:
        handles = [os.open(tar.file, os.O_RDONLY) for tar in tars]
        for handle in handles:
            stack.callback(os.close, handle)
        for row in range(len(tars[0].entries)):
            images: list[Tensor] = []
            for tar, handle in zip(tars, handles, strict=True):
                problems += _check_image(tar, handle, row, stored, images)
            if lossless and not problems:
                problems += _check_pyramid(images, tars, row, stored.enlarged)
    return problems


def _check_image(tar: _Tar, handle: int, row: int, stored: Manifest, images: list[Tensor]) -> list[str]:
    """Decode the image of sample `row` and append it to `images`. Returns what is wrong with it."""
    member = tar.entries[row].image
    channels, data = stored.channels, read(handle, member)
    fault = image_fault(data) if stored.codec is None else None  # an older version looked at less when it indexed
    if fault is not None:
        return [f"{tar.path}: member {member.name} {fault}; write the tar again"]
    try:
        image = decode(data, channels)
    except (RuntimeError, ValueError) as error:
        return [f"{tar.path}: member {member.name} cannot be decoded ({first_line(error)}); make the set again"]
    images.append(image)
    problems = []
    if image.dtype != torch.uint8:
        problems.append(f"{tar.path}: member {member.name} has pixels of {image.dtype}, not of 8 bits")
    if image.shape != (channels, tar.resolution, tar.resolution):
        wanted = (channels, tar.resolution, tar.resolution)
        problems.append(f"{tar.path}: member {member.name} is {tuple(image.shape)}, not {wanted}")
    return problems


def _check_pyramid(images: list[Tensor], tars: list[_Tar], row: int, enlarged: bool) -> list[str]:
    """Compare the images of a sample with the box means of the largest. images: of each tar.

    enlarged: the largest may be an enlargement of a lower level; those below that one are then box means of it.
    """
    pixels = [image.permute(1, 2, 0).numpy() for image in images]
    wrong = _not_means(pixels)
    if wrong and enlarged:
        own = wrong[0]
        wrong = [own + level for level in _not_means(pixels[own:])]
    return [
        f"{tars[level].path}: member {tars[level].entries[row].image.name} is not the box mean of the largest level"
        for level in wrong
    ]


def _not_means(levels: list[UInt8]) -> list[int]:
    """Which images of a sample, each uint8 [R, R, C], are not the box means of the first."""
    means = pyramid(levels[0], [image.shape[0] for image in levels])
    return [i for i, image in enumerate(levels) if not np.array_equal(means[image.shape[0]], image)]
