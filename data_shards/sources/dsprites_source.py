"""dSprites as a source: drawn by the renderer, or read from the published npz or hdf5 (plain arrays only)."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..errors import UserError
from ..manifest import Factor, Label
from ..noise import Purpose
from ..order import permutation
from ..tars import sha256
from .base import Offender, Sample, listing_hash
from .dsprites import COUNT, FACTOR_NAMES, FACTOR_SIZES, Int64, UInt8, classes, index_of, render

_CHUNK = 4096
_REMEDY = "name the published dsprites_ndarray_co1sh3sc6or40x32y32_64x64 file, or leave --npz out to draw the set"


@dataclass(frozen=True)
class Part:
    """Samples by dataset index, drawn at `size`, or their stored bits (uint8 [N, 512], np.packbits of
    64x64)."""

    index: Int64
    size: int
    bits: UInt8 | None = None

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self.index), _step(self.size)):
            rows = slice(start, start + _step(self.size))
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


def _step(size: int) -> int:
    return max(1, 256 * 64 * 64 // size**2)


@dataclass(frozen=True)
class DSprites:
    """A sorted choice of dataset indices at one size."""

    index: Int64
    size: int
    bits: UInt8 | None = None
    drawn_by: str = "renderer"
    data_set: str = field(default="dsprites", init=False)
    channels: int = field(default=1, init=False)
    labels: tuple[Label, ...] = field(default=(Label(name="index"),), init=False)
    notes: tuple[str, ...] = field(default=(), init=False)

    @property
    def names(self) -> Sequence[str]:
        return [f"{i:06d}" for i in self.index]

    @property
    def factors(self) -> tuple[Factor, ...]:
        return tuple(Factor(name=n, size=s) for n, s in zip(FACTOR_NAMES, FACTOR_SIZES, strict=True))

    @property
    def recipe(self) -> dict[str, Any]:
        return {
            "source": "dsprites",
            "images": self.drawn_by,
            "drawn_at": self.size,
            "values": "0 and 255, anti-aliased above 64 px",
        }

    @property
    def listing_sha256(self) -> str:
        return listing_hash(self.names)

    def part(self, start: int, stop: int) -> Part:
        bits = None if self.bits is None else self.bits[start:stop]
        return Part(self.index[start:stop], self.size, bits)

    def scan(self, workers: int) -> Iterator[Offender | None]:
        return iter(())

    def without(self, offenders: Sequence[Offender]) -> DSprites:
        return self

    def findings(self, labels: Mapping[str, Int64]) -> tuple[str, ...]:
        return ()


def dsprites(count: int | None, size: int, file: Path | None = None) -> DSprites:
    """dSprites at `size` (64 or more): all of it, or a fixed subset of `count` images; file: the published
    npz or hdf5."""
    if file is None:
        chosen = _choose(count, COUNT)
        return DSprites(chosen, size)
    if size > 64:
        raise UserError(f"--resolutions has {size}, but {file} holds 64 px images; leave --npz out to draw larger ones")
    with _published(file) as published:
        rows = _choose(count, len(published.index))
        bits = published.packed(rows)
        index = published.index[rows]
    order = np.argsort(index, kind="stable")
    return DSprites(index[order], size, bits[order], f"file {sha256(file)}")


def _choose(count: int | None, total: int) -> Int64:
    """The same `count` of `total` every time, sorted."""
    if count is None or count == total:
        return np.arange(total)
    if not 1 <= count <= total:
        raise UserError(f"--count is {count}; choose 1 to {total}")
    return np.sort(permutation(0, 0, total, purpose=Purpose.SUBSET)[:count])


@contextmanager
def _published(path: Path) -> Iterator[_Published]:
    try:
        with h5py.File(path, "r") if h5py.is_hdf5(path) else zipfile.ZipFile(path) as file:
            yield _Published(path, file)
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged, or not a readable npz or hdf5 ({error}); {_REMEDY}") from None


class _Published:
    """The published file's arrays `imgs` and `latents_classes`, read in pieces and never unpickled."""

    def __init__(self, path: Path, file: h5py.File | zipfile.ZipFile) -> None:
        self.path, self.file = path, file
        shape, dtype = self._header("imgs")
        if shape[1:] != (64, 64) or dtype != np.uint8:
            raise UserError(f"{self.path}: imgs is {dtype} {shape}, not uint8 (N, 64, 64); {_REMEDY}")
        self.index = self._indices(shape[0])

    def _indices(self, count: int) -> Int64:
        """Dataset indices of the rows: from latents_classes (colour first), else the whole set in its
        order."""
        name = "latents/classes" if isinstance(self.file, h5py.File) else "latents_classes"
        if self._has(name):
            table = np.concatenate(list(self._pieces(name)))
            if table.shape == (count, 6) and table.dtype == np.int64:
                return index_of(table[:, 1:])
        elif count == COUNT:
            return np.arange(COUNT)
        raise UserError(f"{self.path}: {name} does not give the factors of {count} images; {_REMEDY}")

    def packed(self, rows: Int64) -> UInt8:
        """Bits of the chosen images: uint8 [len(rows), 512]; rows are sorted."""
        packed, start = np.empty((len(rows), 512), np.uint8), 0
        for piece in self._pieces("imgs"):
            low, high = np.searchsorted(rows, (start, start + len(piece)))
            packed[low:high] = np.packbits(piece[rows[low:high] - start].reshape(high - low, -1) > 0, axis=1)
            start += len(piece)
        return packed

    def _has(self, name: str) -> bool:
        return name in self.file if isinstance(self.file, h5py.File) else f"{name}.npy" in self.file.namelist()

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        if not self._has(name):
            raise UserError(f"{self.path}: holds no array {name}; {_REMEDY}")
        if isinstance(self.file, h5py.File):
            return self.file[name].shape, self.file[name].dtype
        with self.file.open(f"{name}.npy") as stream:
            return self._npy(stream, name)

    def _npy(self, stream: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        try:
            version = npy.read_magic(stream)
            reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = reader(stream)
        except ValueError as error:
            raise UserError(f"{self.path}: array {name} is damaged ({error}); {_REMEDY}") from None
        if fortran or dtype.hasobject or not shape:
            raise UserError(f"{self.path}: array {name} is {dtype} {shape}, not a plain one; {_REMEDY}")
        return shape, dtype

    def _pieces(self, name: str) -> Iterator[NDArray[Any]]:
        shape, dtype = self._header(name)
        if isinstance(self.file, h5py.File):
            for start in range(0, shape[0], _CHUNK):
                yield self.file[name][start : start + _CHUNK]
            return
        width = int(np.prod(shape[1:]))
        with self.file.open(f"{name}.npy") as stream:
            self._npy(stream, name)
            for start in range(0, shape[0], _CHUNK):
                rows = min(_CHUNK, shape[0] - start)
                data = stream.read(rows * width * dtype.itemsize)
                if len(data) != rows * width * dtype.itemsize:
                    raise UserError(f"{self.path}: array {name} is truncated; {_REMEDY}")
                yield np.frombuffer(data, dtype).reshape(rows, *shape[1:])
