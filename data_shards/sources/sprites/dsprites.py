"""dSprites as a source: drawn by the renderer, or read from the published npz or hdf5 (plain arrays only)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from common.arrays import Int64, UInt8
from common.errors import UserError
from data_shards.format.manifest import Factor
from data_shards.format.tars import sha256
from data_shards.sources.base import NumberedImages, Sample, listing_hash
from data_shards.sources.containers.npz_and_hdf5 import Arrays, open_arrays
from data_shards.sources.factor_grids import choose
from data_shards.sources.published_counts import fewer

from .renderer import COUNT, FACTOR_NAMES, FACTOR_SIZES, classes, index_of, render

_REMEDY = "name the published dsprites_ndarray_co1sh3sc6or40x32y32_64x64 file, or leave --npz out to draw the set"


@dataclass(frozen=True)
class DSprites(NumberedImages):
    """A sorted choice of dSprites at one size, as a source: drawn at `size` px, or from stored bits.

    index: int64 [N], dataset indices. bits: uint8 [N, 512], np.packbits of 64x64; None draws. in_file:
    images of the file that they are from.
    """

    index: Int64
    size: int
    bits: UInt8 | None = None
    drawn_by: str = "renderer"
    in_file: int = COUNT
    data_set: ClassVar[str] = "dsprites"
    channels: ClassVar[int] = 1

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self.index), _images_at_once(self.size)):
            rows = slice(start, start + _images_at_once(self.size))
            for index, image in zip(self.index[rows], self._images(rows), strict=True):
                factors = classes([index])[0].tolist()
                yield Sample(
                    f"{index:06d}",
                    image[..., None],
                    {"index": int(index)},
                    dict(zip(FACTOR_NAMES, factors, strict=True)),
                )

    def _images(self, rows: slice) -> UInt8:
        if self.bits is not None:
            images: UInt8 = np.unpackbits(self.bits[rows], axis=1).reshape(-1, 64, 64) * np.uint8(255)
            return images
        images = render(self.index[rows], self.size)
        return images * np.uint8(255) if self.size == 64 else images

    @property
    def names(self) -> Sequence[str]:
        """The dataset indices, six digits."""
        return [f"{i:06d}" for i in self.index]

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Shape, scale, orientation, x and y."""
        return tuple(Factor(name=n, size=s) for n, s in zip(FACTOR_NAMES, FACTOR_SIZES, strict=True))

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether the file that the images are from is the whole set."""
        return fewer("dsprites", self.in_file)

    @property
    def recipe(self) -> dict[str, Any]:
        """JSON values that, with the listing, decide every pixel."""
        return {
            "source": "dsprites",
            "images": self.drawn_by,
            "drawn_at": self.size,
            "values": "0 and 255, anti-aliased above 64 px",
        }

    @property
    def listing_sha256(self) -> str:
        """Hash of the chosen indices."""
        return listing_hash(self.names)

    def part(self, start: int, stop: int) -> DSprites:
        """Return samples start to stop - 1."""
        bits = None if self.bits is None else self.bits[start:stop]
        return replace(self, index=self.index[start:stop], bits=bits)


def _images_at_once(size: int) -> int:
    return max(1, 256 * 64 * 64 // size**2)


def dsprites(count: int | None, size: int, file: Path | None = None) -> DSprites:
    """Return dSprites at `size` px (64 or more) as a source: all of it, or a fixed subset of `count` images.

    file: the published npz or hdf5, to read instead of drawing. Raises UserError where it is not that file.
    """
    if file is None:
        chosen = choose(count, COUNT)
        return DSprites(chosen, size)
    if size > 64:
        raise UserError(f"--resolutions has {size}, but {file} holds 64 px images; leave --npz out to draw larger ones")
    with open_arrays(file, _REMEDY) as arrays:
        published = _Published(arrays)
        rows = choose(count, len(published.index))
        bits = published.packed(rows)
        index = published.index[rows]
    order = np.argsort(index, kind="stable")
    return DSprites(index[order], size, bits[order], f"file {sha256(file)}", len(published.index))


class _Published:
    """The published file's arrays `imgs` and `latents_classes`."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        shape, dtype = arrays.header("imgs")
        if shape[1:] != (64, 64) or dtype != np.uint8:
            raise UserError(f"{arrays.path}: imgs is {dtype} {shape}, not uint8 (N, 64, 64); {_REMEDY}")
        self.index = self._indices(shape[0])

    def _indices(self, count: int) -> Int64:
        """Dataset indices of the rows: from latents_classes (colour first), else the whole set in its order."""
        name = "latents/classes" if self.arrays.is_hdf5 else "latents_classes"
        if self.arrays.has(name):
            table = np.concatenate(list(self.arrays.pieces(name)))
            if table.shape == (count, 6) and table.dtype == np.int64:
                return index_of(table[:, 1:])
        elif count == COUNT:
            return np.arange(COUNT)
        raise UserError(f"{self.arrays.path}: {name} does not give the factors of {count} images; {_REMEDY}")

    def packed(self, rows: Int64) -> UInt8:
        """Read the bits of the chosen images: uint8 [len(rows), 512]. rows: sorted."""
        packed, start = np.empty((len(rows), 512), np.uint8), 0
        for piece in self.arrays.pieces("imgs"):
            low, high = np.searchsorted(rows, (start, start + len(piece)))
            packed[low:high] = np.packbits(piece[rows[low:high] - start].reshape(high - low, -1) > 0, axis=1)
            start += len(piece)
        return packed
