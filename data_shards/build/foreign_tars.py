"""Tars that another webdataset tool wrote: find them, look at every image as `make` does, and refuse the unusable."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from common.errors import UserError, joined
from common.process_pool import ordered_map
from data_shards.format import manifest
from data_shards.format.compressed_tars import is_compressed_name, refuse_compressed
from data_shards.format.left_out import LeftOut
from data_shards.format.litter import litter
from data_shards.format.manifest import Shard
from data_shards.format.tars import Entry, Member, contents, read, refuse_mixed_images, sha256, tars_in
from data_shards.sources.containers.image_store import Fault
from data_shards.sources.photos.rejection_rules import usable

_CHANNELS = {"1": 1, "L": 1, "RGB": 3}  # by Pillow's mode
_MOST_PROBLEMS = 20  # that a message lists
_DRAFT = 64  # px: a JPEG decodes faster so, with the same errors
_SMALL = 2**26  # bytes of tars that are read before worker processes would have started
_OTHER_MAKER = "make a set with `make folder`"


@dataclass
class ForeignTar:
    """The contents of one tar. resolution: side of every image in px; channels: 1 or 3."""

    path: Path
    entries: list[Entry]
    left_out: LeftOut
    resolution: int
    channels: int
    shard: Shard


class _Look(NamedTuple):
    """What one tar holds, or lines on what is wrong with it."""

    tar: ForeignTar | None
    problems: list[str]


def open_levels(
    root: Path, advance: Callable[[int], None], workers: int = 1, image: str | None = None
) -> dict[int, list[ForeignTar]]:
    """Open every tar below `root`; returns them by resolution. advance(1) is called after each tar.

    image: the extension of the images, where samples have several. Raises UserError where tars, images or the layout
    of the folders cannot be used, or where the levels hold other samples than each other.
    """
    folders = _folders(root)
    paths = [path for tars in folders.values() for path in tars]
    processes = workers if sum(path.stat().st_size for path in paths) > _SMALL else 1
    looks = ordered_map(functools.partial(_look_at, image=image), paths, processes)
    levels: dict[int, list[ForeignTar]] = {}
    problems: list[str] = []
    for folder, held in folders.items():
        tars = _usable_tars(looks, len(held), problems, advance)
        if not tars or problems:
            continue
        _refuse_unlike_tars(tars)
        if tars[0].resolution in levels:
            raise UserError(f"{folder}: holds {tars[0].resolution} px images, as another folder does; move one away")
        levels[tars[0].resolution] = tars
    _refuse(root, problems)
    _refuse_unlike_levels(levels)
    return levels


def _folders(root: Path) -> dict[Path, list[Path]]:
    """The sorted tars of each folder that is a level: of `root` itself, or of its sub-folders with a number as name."""
    if not root.is_dir():
        raise UserError(f"{root}: {'is no' if root.exists() else 'no such'} folder; name a folder of tars")
    if (root / manifest.UNFINISHED).exists() and not (root / manifest.FILE).exists():
        raise UserError(f"{root}: holds an unfinished set; run the `make` command that began it again")
    candidates = [root, *sorted(path for path in root.iterdir() if path.is_dir() and path.name.isdigit())]
    folders = {folder: tars_in(folder) for folder in candidates}
    folders = {folder: paths for folder, paths in folders.items() if paths}
    refuse_compressed(path for folder in candidates for path in folder.iterdir() if is_compressed_name(path.name))
    refuse_compressed(path for paths in folders.values() for path in paths)
    if not folders:
        deeper = next((path.parent for path in sorted(root.rglob("*.tar")) if litter(path.name) is None), None)
        remedy = f"name a folder of tars, such as {deeper}" if deeper is not None else "name a folder of tars"
        raise UserError(f"{root}: holds no *.tar and no <resolution>/*.tar; {remedy}")
    badly_named = [path for paths in folders.values() for path in paths if not manifest.is_name(path.name)]
    if badly_named:
        raise UserError(f"{badly_named[0]}: name tars with letters, digits, dots, - and _ alone, as manifests do")
    if root in folders and len(folders) > 1:
        raise UserError(f"{root}: holds tars beside folders of tars; move one kind away")
    return folders


def _usable_tars(
    looks: Iterator[_Look], count: int, problems: list[str], advance: Callable[[int], None]
) -> list[ForeignTar]:
    """Take the next `count` results of looking at tars, and append what is wrong to `problems`."""
    tars: list[ForeignTar] = []
    for _ in range(count):
        look = next(looks)
        problems += look.problems
        tars += [look.tar] if look.tar is not None else []
        advance(1)
    return tars


def _look_at(path: Path, image: str | None) -> _Look:
    """Decode every image of a tar, and hash the tar. Runs in a worker process."""
    held = contents(path, image)
    problems: list[str] = []
    kinds: list[tuple[Member, int, int]] = []
    handle = os.open(path, os.O_RDONLY)
    try:
        for entry in held.entries:
            data = read(handle, entry.image)
            fault = image_fault(data)
            if fault is None:
                kinds.append((entry.image, *_side_and_channels(data)))
            else:
                problems.append(f"{path}: member {entry.image.name} {fault}")
    finally:
        os.close(handle)
    if problems:
        return _Look(None, problems)
    unlike = [kind for kind in kinds if kind[1:] != kinds[0][1:]]
    if unlike:
        return _Look(None, [_unlike(path, unlike[0], path, kinds[0])])
    shard = Shard(name=path.name, samples=len(held.entries), bytes=path.stat().st_size, sha256=sha256(path))
    return _Look(ForeignTar(path, held.entries, held.left_out, *kinds[0][1:], shard), [])


def _unlike(path: Path, kind: tuple[Member, int, int], first_path: Path, first: tuple[Member, int, int]) -> str:
    return (
        f"{path}: member {kind[0].name} is {kind[1]} px, {kind[2]} channels; the first of "
        f"{first_path} is {first[1]} px, {first[2]}; {_OTHER_MAKER}"
    )


def open_image(data: bytes) -> Image.Image:
    """Open the bytes of an image as the loader can decode it, not decoded yet."""
    return Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))


def image_fault(data: bytes) -> str | None:
    """Return the rule that an image of a set breaks and the remedy; None for one that can be used."""
    try:
        usable(open_image, data, lambda width, height: None, _DRAFT)
        image = open_image(data)
        if image.width != image.height or image.mode not in _CHANNELS:
            raise Fault(f"is {image.width}x{image.height} {image.mode}, not square grey or RGB", _OTHER_MAKER)
    except Fault as fault:
        return "; ".join(fault.args)
    return None


def _side_and_channels(data: bytes) -> tuple[int, int]:
    """Side in px and number of channels of an image that can be used."""
    image = open_image(data)
    return image.width, _CHANNELS[image.mode]


def _refuse(root: Path, problems: list[str]) -> None:
    """Raise one UserError that lists the problems, the first ones of very many."""
    if len(problems) == 1:
        raise UserError(f"{problems[0]}; then write the tar again, or `make folder` with --on-bad skip")
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        rest = [f"and {more:,} more"] if more > 0 else []
        what = f"{root}: unusable images (write the tars again without them, or `make folder` with --on-bad skip)"
        raise joined(what, [*problems[:_MOST_PROBLEMS], *rest])


def _refuse_unlike_tars(tars: list[ForeignTar]) -> None:
    """Every tar of a level must hold images of one size and as many channels."""
    first = tars[0]
    refuse_mixed_images(first.path.parent, (entry for tar in tars for entry in tar.entries))
    for tar in tars:
        if (tar.resolution, tar.channels) != (first.resolution, first.channels):
            kinds = [(t.entries[0].image, t.resolution, t.channels) for t in (tar, first)]
            raise UserError(_unlike(tar.path, kinds[0], first.path, kinds[1]))


def _refuse_unlike_levels(levels: dict[int, list[ForeignTar]]) -> None:
    """Every level must have the same keys in the same tars, and as many channels."""
    top = levels[max(levels)]
    top_keys = [[entry.key for entry in tar.entries] for tar in top]
    for tars in levels.values():
        if [[entry.key for entry in tar.entries] for tar in tars] != top_keys:
            raise UserError(
                f"{tars[0].path.parent}: its shards hold other samples than {top[0].path.parent}; "
                "every level needs the same keys in the same order"
            )
        if tars[0].channels != top[0].channels:
            raise UserError(f"{tars[0].path.parent}: {tars[0].channels} channels, {top[0].path.parent} has others")
