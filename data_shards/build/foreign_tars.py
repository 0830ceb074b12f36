"""Tars that another webdataset tool wrote: find them, open them, and refuse what a set cannot hold."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from common.errors import UserError
from data_shards.format import manifest
from data_shards.format.tars import Entry, entries, read, tars_in

_CHANNELS = {"1": 1, "L": 1, "RGB": 3}  # by Pillow's mode


@dataclass
class ForeignTar:
    """The contents of one tar. resolution: side of every image in px; channels: 1 or 3."""

    path: Path
    entries: list[Entry]
    resolution: int
    channels: int


def open_levels(root: Path, advance: Callable[[int], None]) -> dict[int, list[ForeignTar]]:
    """Open every tar below `root`; returns them by resolution. advance(1) is called after each tar.

    Raises UserError where a tar, an image or the layout of the folders cannot be used, or where the levels hold other
    samples than each other.
    """
    levels: dict[int, list[ForeignTar]] = {}
    for folder, paths in _folders(root).items():
        tars: list[ForeignTar] = []
        for path in paths:
            tars.append(_open(path, tars[0] if tars else None))
            advance(1)
        if tars[0].resolution in levels:
            raise UserError(f"{folder}: holds {tars[0].resolution} px images, as another folder does; move one away")
        levels[tars[0].resolution] = tars
    _refuse_unlike_levels(levels)
    return levels


def _folders(root: Path) -> dict[Path, list[Path]]:
    """The sorted tars of each folder that is a level: of `root` itself, or of its sub-folders with a number as name."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name a folder of tars")
    if (root / manifest.UNFINISHED).exists() and not (root / manifest.FILE).exists():
        raise UserError(f"{root}: holds an unfinished set; run the `make` command that began it again")
    candidates = [root, *sorted(path for path in root.iterdir() if path.is_dir() and path.name.isdigit())]
    folders = {folder: tars_in(folder) for folder in candidates}
    folders = {folder: paths for folder, paths in folders.items() if paths}
    if not folders:
        raise UserError(f"{root}: holds no *.tar and no <resolution>/*.tar; name a folder of tars")
    badly_named = [path for paths in folders.values() for path in paths if not manifest.is_name(path.name)]
    if badly_named:
        raise UserError(f"{badly_named[0]}: name tars with letters, digits, dots, - and _ alone, as manifests do")
    if root in folders and len(folders) > 1:
        raise UserError(f"{root}: holds tars beside folders of tars; move one kind away")
    return folders


def _open(path: Path, first: ForeignTar | None) -> ForeignTar:
    """Open a tar whose images must all be square and like those of the level's first tar (None: this is the first)."""
    contents = entries(path)
    handle = os.open(path, os.O_RDONLY)
    try:
        for entry in contents:
            side, channels = _side_and_channels(path, entry, read(handle, entry.image))
            first = first or ForeignTar(path, contents, side, channels)
            if (side, channels) != (first.resolution, first.channels):
                raise UserError(
                    f"{path}: member {entry.image.name} is {side} px, {channels} channels; the first of "
                    f"{first.path} is {first.resolution} px, {first.channels}; make a set with `make folder`"
                )
    finally:
        os.close(handle)
    assert first is not None
    return ForeignTar(path, contents, first.resolution, first.channels)


def _side_and_channels(path: Path, entry: Entry, data: bytes) -> tuple[int, int]:
    """Side in px and number of channels of an image, from its header."""
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path}: member {entry.image.name} is not a readable image ({error}); write the tar again"
        ) from None
    if image.format == "PNG" and data[24] == 16:  # IHDR's bit depth, which Pillow's mode does not show
        raise UserError(f"{path}: member {entry.image.name} has 16 bits per channel; make a set with `make folder`")
    if image.width != image.height or image.mode not in _CHANNELS or getattr(image, "n_frames", 1) > 1:
        what = f"is {image.width}x{image.height} {image.mode}"
        raise UserError(
            f"{path}: member {entry.image.name} {what}, not square grey or RGB; make a set with `make folder`"
        )
    return image.width, _CHANNELS[image.mode]


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
