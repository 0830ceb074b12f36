"""Looking at every byte of a set: hashes, counts, keys, pixels, and the pyramid."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.process_pool import ordered_map
from data_shards.format import index, manifest
from data_shards.format.image_codec import decode
from data_shards.format.manifest import Manifest
from data_shards.format.pyramid import pyramid
from data_shards.format.tars import Entry, entries, read, sha256


@dataclass(frozen=True)
class _Job:
    root: Path
    found: Manifest
    number: int


def check(root: Path, workers: int = 1) -> Iterator[list[str]]:
    """Problems of each shard (all levels of it), in order; the first list is about the set as a whole."""
    found = manifest.load(root)
    yield _of_the_set(root, found)
    shards = {len(info.shards) for info in found.levels.values()}
    jobs = (_Job(root, found, number) for number in range(min(shards)))
    yield from ordered_map(_check_shard, jobs, workers)


def _of_the_set(root: Path, found: Manifest) -> list[str]:
    problems = []
    top = found.level(found.resolutions[0])
    for resolution, info in found.levels.items():
        folder = root / info.folder
        if [s.samples for s in info.shards] != [s.samples for s in top.shards]:
            problems.append(f"{folder}: its shards hold other numbers of samples than the largest level's")
        if sum(s.samples for s in info.shards) != found.count:
            problems.append(f"{folder}: holds {sum(s.samples for s in info.shards)} samples, not {found.count}")
        try:
            index.load(root, found.level(resolution))
            index.check_shards(root, info)
        except UserError as error:
            problems += error.problems or [str(error)]
    return problems


def _check_shard(job: _Job) -> list[str]:
    """Problems of one shard at every level. Runs in a worker process."""
    torch.set_num_threads(1)
    problems: list[str] = []
    tars: dict[int, tuple[Path, list[Entry]]] = {}
    for resolution in job.found.resolutions:
        info = job.found.level(resolution)
        path = job.root / info.folder / info.shards[job.number].name
        try:
            problems += _bytes(path, info.shards[job.number], job.root)
            tars[resolution] = (path, entries(path))
        except UserError as error:
            problems.append(str(error))
        except FileNotFoundError:
            problems.append(f"{path}: missing; copy it again")
    if problems:
        return problems
    problems += _keys(tars)
    return problems or _pixels(job.found, tars)


def _bytes(path: Path, shard: manifest.Shard, root: Path) -> list[str]:
    found = sha256(path)
    if found == shard.sha256:
        return []
    remedy = f"copy it again, or run `python -m data_shards index {root}` if the change is wanted"
    return [f"{path}: sha256 is {found}, the manifest has {shard.sha256}; {remedy}"]


def _keys(tars: dict[int, tuple[Path, list[Entry]]]) -> list[str]:
    top = [e.key for e in next(iter(tars.values()))[1]]
    return [
        f"{path}: its keys are not those of the largest level; make the set again"
        for path, found in tars.values()
        if [e.key for e in found] != top
    ]


def _pixels(found: Manifest, tars: dict[int, tuple[Path, list[Entry]]]) -> list[str]:
    """Decode every image; a lower level of a lossless set is the box mean of the largest."""
    problems: list[str] = []
    pyramids = found.codec is not None and found.codec.lossless
    handles = {resolution: os.open(path, os.O_RDONLY) for resolution, (path, _) in tars.items()}
    try:
        for row in range(len(next(iter(tars.values()))[1])):
            images: dict[int, Tensor] = {}
            for resolution, (path, table) in tars.items():
                member = table[row].image
                try:
                    images[resolution] = decode(read(handles[resolution], member), found.channels)
                except (RuntimeError, ValueError) as error:
                    problems.append(f"{path}: member {member.name} cannot be decoded ({error}); make the set again")
                    continue
                if images[resolution].dtype != torch.uint8:
                    problems.append(f"{path}: member {member.name} has pixels of {images[resolution].dtype}")
                if images[resolution].shape != (found.channels, resolution, resolution):
                    problems.append(f"{path}: member {member.name} is {tuple(images[resolution].shape)}")
            if pyramids and not problems:
                problems += _pyramid(images, tars, row)
    finally:
        for handle in handles.values():
            os.close(handle)
    return problems


def _pyramid(images: dict[int, Tensor], tars: dict[int, tuple[Path, list[Entry]]], row: int) -> list[str]:
    largest = images[max(images)].permute(1, 2, 0).numpy()
    return [
        f"{tars[level][0]}: member {tars[level][1][row].image.name} is not the box mean of the largest level"
        for level, image in pyramid(largest, list(images)).items()
        if not np.array_equal(image, images[level].permute(1, 2, 0).numpy())
    ]
