"""Drawn faces as a source: face i is a function of the style and of i alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from common.arrays import Int64
from common.errors import UserError
from data_shards.format.manifest import Factor
from data_shards.sources.base import NumberedImages, Sample, listing_hash

from .factors import Continuous, classes_of, draw_values
from .render import SMALLEST, render_values
from .styles import DEFAULT, FaceStyle, open_style

MOST = 10_000_000  # names have seven digits, and are in the order of the numbers
_AT_ONCE = 16  # faces that are drawn before the first of them is stored
PER_SHARD = 512  # at most: a few seconds' drawing, so that there is work for several processes


@dataclass(frozen=True)
class Faces(NumberedImages):
    """Faces of one style at `size` px; those below 256 px are shrunk from it. index: int64 [N], their numbers."""

    style: FaceStyle
    index: Int64
    size: int
    channels: ClassVar[int] = 3

    def __iter__(self) -> Iterator[Sample]:
        names = [factor.name for factor in self.style.factors]
        for start in range(0, len(self.index), _AT_ONCE):
            index = self.index[start : start + _AT_ONCE]
            values = draw_values(self.style.factors, index)
            classes, images = classes_of(self.style.factors, values), render_values(self.style, values, self.size)
            for i, row, row_classes, image in zip(index, values, classes.tolist(), images, strict=True):
                factors = dict(zip(names, row_classes, strict=True))
                yield Sample(f"{i:07d}", image, {"index": int(i)}, factors, self._continuous(row.tolist()))

    def _continuous(self, row: list[float]) -> dict[str, float]:
        """The values of the continuous factors of one face, by name."""
        pairs = zip(self.style.factors, row, strict=True)
        return {factor.name: value for factor, value in pairs if isinstance(factor, Continuous)}

    @property
    def data_set(self) -> str:
        """The data set's name: faces, and the style's where it is another one than the shipped face network knows."""
        return "faces" if self.style.name == DEFAULT else f"faces-{self.style.name}"

    @property
    def names(self) -> Sequence[str]:
        """The faces' numbers, seven digits."""
        return [f"{i:07d}" for i in self.index]

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Parts, colours and pose."""
        return tuple(factor.described for factor in self.style.factors)

    @property
    def notes(self) -> tuple[str, ...]:
        """Who drew the style, and its licence."""
        return (self.style.attribution,)

    @property
    def recipe(self) -> dict[str, Any]:
        """JSON values that, with the listing, decide every pixel."""
        return {"source": self.data_set, **self.style.recipe, "drawn_at": max(self.size, SMALLEST)}

    @property
    def listing_sha256(self) -> str:
        """Hash of the numbers."""
        return listing_hash(self.names)

    def part(self, start: int, stop: int) -> Faces:
        """Return samples start to stop - 1."""
        return replace(self, index=self.index[start:stop])


def faces(count: int, size: int, style: str, first: int = 0) -> Faces:
    """Return `count` faces of a style from number `first` on as a source, at `size` px.

    Raises UserError where there are none, where a number has more than seven digits, or the style cannot be used.
    """
    if count < 1:
        raise UserError(f"--count is {count}; choose 1 or more")
    if first + count > MOST:
        raise UserError(f"--first {first}, --count {count}: faces are numbered below {MOST:,}; choose fewer")
    return Faces(open_style(style), np.arange(first, first + count), size)
