"""Published sets whose images are every combination of known factors, in order, the last factor the fastest.

3D Shapes (Burgess and Kim, 2018): 3dshapes.h5. MPI3D (Gondal et al., 2019): mpi3d_toy.npz, mpi3d_realistic.npz and
mpi3d_real.npz, and mpi3d_real_complex.npz of four colours and shapes. Cars3D (Reed et al., 2015): cars3d.npz.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from common.arrays import Int64
from common.errors import UserError
from common.random_numbers import Purpose
from data_shards.format.manifest import Factor
from data_shards.format.tars import sha256
from data_shards.read.sample_order import permutation
from data_shards.sources.containers.npz_and_hdf5 import open_arrays

from .base import NumberedImages, Sample, listing_hash

Sizes = Mapping[str, int]
_MPI3D = {"size": 2, "camera_height": 3, "background": 3, "horizontal": 40, "vertical": 40}


@dataclass(frozen=True)
class Published:
    """A published data set.

    name: of the data set. file: its published name. array: the one of its images. grids: factors and their sizes, in
    the order of the file; a data set that comes in several versions has several.
    """

    name: str
    file: str
    array: str
    grids: tuple[Sizes, ...]


_SHAPES3D = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15}
SHAPES3D = Published("shapes3d", "3dshapes.h5", "images", (_SHAPES3D,))
MPI3D = Published(
    "mpi3d", "mpi3d_toy.npz", "images", ({"color": 6, "shape": 6, **_MPI3D}, {"color": 4, "shape": 4, **_MPI3D})
)
CARS3D = Published("cars3d", "cars3d.npz", "imgs", ({"elevation": 4, "azimuth": 24, "object": 183},))
PUBLISHED = {published.name: published for published in (SHAPES3D, MPI3D, CARS3D)}


@dataclass(frozen=True)
class Grid(NumberedImages):
    """A sorted choice of a published file's images. index: int64 [N], their rows; sizes: factors and their sizes."""

    path: Path
    published: Published
    sizes: tuple[tuple[str, int], ...]
    index: Int64
    file_sha256: str
    channels: ClassVar[int] = 3

    def __iter__(self) -> Iterator[Sample]:
        if not len(self.index):
            return
        start, names = int(self.index[0]), [name for name, _ in self.sizes]
        with open_arrays(self.path, _remedy(self.published)) as arrays:
            for piece in arrays.pieces(self.published.array, start, int(self.index[-1]) + 1):
                low, high = np.searchsorted(self.index, (start, start + len(piece)))
                for row in self.index[low:high]:
                    classes = np.unravel_index(int(row), [size for _, size in self.sizes])
                    factors = dict(zip(names, map(int, classes), strict=True))
                    yield Sample(f"{row:07d}", piece[row - start], {"index": int(row)}, factors)
                start += len(piece)

    @property
    def data_set(self) -> str:
        """The data set's name."""
        return self.published.name

    @property
    def names(self) -> Sequence[str]:
        """The rows' numbers in the file, seven digits."""
        return [f"{i:07d}" for i in self.index]

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The known factors, in the order of the file."""
        return tuple(Factor(name=name, size=size) for name, size in self.sizes)

    @property
    def recipe(self) -> dict[str, Any]:
        """JSON values that, with the listing, decide every pixel."""
        return {"source": self.data_set, "images": f"file {self.file_sha256}"}

    @property
    def listing_sha256(self) -> str:
        """Hash of the file and of the chosen rows."""
        return listing_hash([self.file_sha256, *self.names])

    def part(self, start: int, stop: int) -> Grid:
        """Return samples start to stop - 1."""
        return replace(self, index=self.index[start:stop])


def grid(path: Path, published: Published, count: int | None) -> Grid:
    """Open a published file as a source of all its images, or of the same `count` of them every time.

    Raises UserError where it is not that file.
    """
    with open_arrays(path, _remedy(published)) as arrays:
        shape, dtype = arrays.header(published.array)
    known = {math.prod(sizes.values()): sizes for sizes in published.grids}
    if shape[1:] != (64, 64, 3) or dtype != np.uint8 or shape[0] not in known:
        counts = " or ".join(map(str, known))
        raise UserError(
            f"{path}: {published.array} is {dtype} {shape}, not uint8 ({counts}, 64, 64, 3); {_remedy(published)}"
        )
    return Grid(path, published, tuple(known[shape[0]].items()), choose(count, shape[0]), sha256(path))


def choose(count: int | None, total: int) -> Int64:
    """Choose the same `count` of `total` rows every time, sorted: int64 [count]. None is all of them."""
    if count is None or count == total:
        return np.arange(total)
    if not 1 <= count <= total:
        raise UserError(f"--count is {count}; choose 1 to {total}")
    return np.sort(permutation(0, 0, total, purpose=Purpose.SUBSET)[:count])


def _remedy(published: Published) -> str:
    return f"name the published {published.file}"
