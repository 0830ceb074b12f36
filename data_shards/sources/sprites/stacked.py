"""Stacked sprites: three sprites, one in each colour channel, each of one of ten classes: 1,000 modes to cover.

What Stacked MNIST (Metz et al., 2017) is to digits: a generator that has lost modes has lost some of the 1,000
combinations, which are equally likely, and a network that reads one sprite can count them
(`python -m evaluation modes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from common.arrays import Int64, UInt8
from common.errors import UserError
from common.random_numbers import Purpose, bits
from data_shards.format.manifest import Factor
from data_shards.sources.base import NumberedImages, Sample, listing_hash

from .renderer import FACTOR_SIZES, factors_of, render_factors

CHANNELS = ("red", "green", "blue")


class SpriteClass(NamedTuple):
    """Factor classes of dSprites that all sprites of a class share; their orientation is free.

    shape: 0..2 (square, ellipse, heart); scale: 0..5 for 0.5 to 1; x, y: 0..31.
    """

    shape: int
    scale: int
    x: int
    y: int


# Two at each of five places, which differ in shape and scale.
CLASSES = (
    SpriteClass(0, 0, 6, 6),
    SpriteClass(1, 5, 6, 6),
    SpriteClass(2, 0, 25, 6),
    SpriteClass(0, 5, 25, 6),
    SpriteClass(1, 0, 6, 25),
    SpriteClass(2, 5, 6, 25),
    SpriteClass(0, 0, 25, 25),
    SpriteClass(2, 5, 25, 25),
    SpriteClass(1, 0, 16, 16),
    SpriteClass(0, 5, 16, 16),
)
MODES = len(CLASSES) ** len(CHANNELS)


@dataclass(frozen=True)
class Stacked(NumberedImages):
    """Images of three sprites at `size` px. index: int64 [N], their numbers; image i is the same in every set."""

    index: Int64
    size: int
    data_set: ClassVar[str] = "stacked"
    channels: ClassVar[int] = 3

    def __iter__(self) -> Iterator[Sample]:
        at_once = max(1, 64 * 64**2 // self.size**2)
        for start in range(0, len(self.index), at_once):
            index = self.index[start : start + at_once]
            chosen, images = draw_classes(index), draw(index, self.size)
            for i, classes, image in zip(index, chosen.tolist(), images, strict=True):
                yield Sample(f"{i:07d}", image, {"index": int(i)}, dict(zip(CHANNELS, classes, strict=True)))

    @property
    def names(self) -> Sequence[str]:
        """The images' numbers, seven digits."""
        return [f"{i:07d}" for i in self.index]

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The class of the sprite in each channel."""
        return tuple(Factor(name=name, size=len(CLASSES)) for name in CHANNELS)

    @property
    def recipe(self) -> dict[str, Any]:
        """JSON values that, with the listing, decide every pixel."""
        return {
            "source": self.data_set,
            "classes": [list(sprite) for sprite in CLASSES],
            "drawn_at": self.size,
            "values": "0 and 255, anti-aliased above 64 px",
        }

    @property
    def listing_sha256(self) -> str:
        """Hash of the numbers."""
        return listing_hash(self.names)

    def part(self, start: int, stop: int) -> Stacked:
        """Return samples start to stop - 1."""
        return replace(self, index=self.index[start:stop])


def stacked(count: int, size: int) -> Stacked:
    """Return the first `count` images at `size` px (64 or more) as a source. Raises UserError where there are none."""
    if count < 1:
        raise UserError(f"--count is {count}; choose 1 or more")
    return Stacked(np.arange(count), size)


def draw_classes(index: Int64) -> Int64:
    """Draw the class of each channel of images by their numbers [N]: int64 [N, 3] in 0..9, uniform and independent."""
    return _numbers(index)[:, :3] % len(CLASSES)


def draw(index: Int64, size: int) -> UInt8:
    """Draw images by their numbers [N]: uint8 [N, size, size, 3], 0 and 255 at 64 px."""
    orientations = _numbers(index)[:, 3:] % FACTOR_SIZES[2]
    table = np.array(CLASSES)[draw_classes(index)]  # [N, 3, 4]
    rows = np.concatenate([table[..., :2], orientations[..., None], table[..., 2:]], -1).reshape(-1, 5)
    images = render_factors(factors_of(rows), size)
    images = images * np.uint8(255) if size == 64 else images
    return np.ascontiguousarray(images.reshape(-1, 3, size, size).transpose(0, 2, 3, 1))


def _numbers(index: Int64) -> Int64:
    drawn: Int64 = bits(0, Purpose.STACKED, torch.from_numpy(np.asarray(index, np.int64)), 6).numpy()
    return drawn
