"""Read arrays of a published npz or hdf5 file in pieces. Nothing is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from common.errors import UserError

_CHUNK = 4096  # rows read at once


@contextmanager
def open_arrays(path: Path, remedy: str) -> Iterator[Arrays]:
    """Open a npz or hdf5 file. Raises UserError, with the remedy, where it is neither or damaged."""
    try:
        with h5py.File(path, "r") if h5py.is_hdf5(path) else zipfile.ZipFile(path) as file:
            yield Arrays(path, file, remedy)
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged, or not a readable npz or hdf5 ({error}); {remedy}") from None


class Arrays:
    """An open file. remedy: what a UserError about it ends with."""

    def __init__(self, path: Path, file: h5py.File | zipfile.ZipFile, remedy: str) -> None:
        self.path, self.file, self.remedy = path, file, remedy

    @property
    def is_hdf5(self) -> bool:
        """True for hdf5, False for npz."""
        return isinstance(self.file, h5py.File)

    def has(self, name: str) -> bool:
        """Return whether the file holds an array of this name."""
        if isinstance(self.file, h5py.File):
            return name in self.file
        return f"{name}.npy" in self.file.namelist()

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and type of an array. Raises UserError where there is no such plain array."""
        if not self.has(name):
            raise UserError(f"{self.path}: holds no array {name}; {self.remedy}")
        if isinstance(self.file, h5py.File):
            return self.file[name].shape, self.file[name].dtype
        with self.file.open(f"{name}.npy") as stream:
            return self._npy_header(stream, name)

    def pieces(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield rows start to stop - 1, at most 4,096 at a time. In a npz, those before them are decompressed, too."""
        shape, _ = self.header(name)
        stop = shape[0] if stop is None else stop
        if not isinstance(self.file, h5py.File):
            yield from self._npz_pieces(self.file, name, start, stop)
            return
        for first in range(start, stop, _CHUNK):
            yield self.file[name][first : min(first + _CHUNK, stop)]

    def _npz_pieces(self, file: zipfile.ZipFile, name: str, start: int, stop: int) -> Iterator[NDArray[Any]]:
        shape, dtype = self.header(name)
        row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        with file.open(f"{name}.npy") as stream:
            self._npy_header(stream, name)
            for first in range(0, stop, _CHUNK):
                last = min(first + _CHUNK, stop)
                data = stream.read((last - first) * row_bytes)
                if len(data) != (last - first) * row_bytes:
                    raise UserError(f"{self.path}: array {name} is truncated; {self.remedy}")
                if last > start:
                    yield np.frombuffer(data, dtype).reshape(last - first, *shape[1:])[max(start - first, 0) :]

    def _npy_header(self, stream: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        try:
            version = npy.read_magic(stream)
            reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = reader(stream)
        except ValueError as error:
            raise UserError(f"{self.path}: array {name} is damaged ({error}); {self.remedy}") from None
        if fortran or dtype.hasobject or not shape:
            raise UserError(f"{self.path}: array {name} is {dtype} {shape}, not a plain one; {self.remedy}")
        return shape, dtype
