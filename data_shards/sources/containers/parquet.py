"""Read images from the parquet files that Hugging Face publishes: the column `image` is a struct of bytes and path."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from common.errors import UserError
from data_shards.format.tars import MAX_MEMBER

from .image_store import Fault, Photo, Store

MAX_GROUP = 8 * 2**30  # bytes: a row group is held in memory
_REMEDY = "name files with an image column as Hugging Face writes it, or a folder of images"


@dataclass(frozen=True)
class ParquetStore(Store):
    """The rows of parquet files, in order. A photo's place: file, row group, row of the group, row of the file."""

    paths: tuple[Path, ...]

    def photos(self) -> list[Photo]:
        """Return all rows in order, named by their stored paths where those are unique, else by number."""
        rows = [row for number, path in enumerate(self.paths) for row in _rows(number, path)]
        names = [PurePosixPath(path).name for path, _ in rows]
        times = Counter(names)
        photos = []
        for i, (name, (_, place)) in enumerate(zip(names, rows, strict=True)):
            unique = name and times[name] == 1
            photos.append(Photo(name if unique else f"{i:05d}", self.paths[place[0]].name, place))
        return photos

    def read(self, photo: Photo) -> bytes:
        """Return the bytes in a row's image column."""
        file, group, row, _ = photo.place
        path = self.paths[file]
        data = _images(path, group, path.stat().st_mtime_ns)[row].as_py()
        if data is None:
            raise Fault("holds no image bytes", "remove the row")
        if len(data) > MAX_MEMBER:
            raise Fault(f"holds {len(data)} bytes, more than {MAX_MEMBER}", "shrink the image, or remove the row")
        return bytes(data)

    def where(self, photo: Photo) -> str:
        """Return the image's file and row."""
        return f"{self.paths[photo.place[0]].name}: row {photo.place[3]} ({photo.name})"


def _rows(number: int, path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the stored path ("" without one) and the place of every row of file `number`."""
    with _readable(path) as file:
        names = ["image.path"] if _has_paths(file) else []
        first = 0
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=names)
            paths = table["image"].combine_chunks().field("path").to_pylist() if names else [""] * _count(file, group)
            for row, name in enumerate(paths):
                yield name or "", (number, group, row, first + row)
            first += len(paths)


def _count(file: Any, group: int) -> int:
    return int(file.metadata.row_group(group).num_rows)


def _has_paths(file: Any) -> bool:
    kind = file.schema_arrow.field("image").type
    return any(kind.field(i).name == "path" for i in range(kind.num_fields))


@functools.lru_cache(maxsize=1)
def _images(path: Path, group: int, mtime: int) -> Any:
    """Read the image bytes of a row group: parquet is read in no smaller pieces. mtime: a changed file is read anew."""
    with _readable(path) as file:
        size = file.metadata.row_group(group).total_byte_size
        if size > MAX_GROUP:
            raise UserError(f"{path}: row group {group} has {size} bytes, more than {MAX_GROUP}; write smaller ones")
        return file.read_row_group(group, columns=["image.bytes"])["image"].combine_chunks().field("bytes")


@contextmanager
def _readable(path: Path) -> Iterator[Any]:
    """Open a file that has an image column. Raises UserError where it has none, or cannot be read."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
        from pyarrow.types import is_struct
    except ImportError:
        raise UserError(
            f"{path}: reading parquet needs pyarrow; in the project's folder: "
            "pip install -c constraints.txt -e '.[parquet]'"
        ) from None
    try:
        with ParquetFile(path) as file:
            columns = {field.name: field.type for field in file.schema_arrow}
            kind = columns.get("image")
            if kind is None or not is_struct(kind) or kind.get_field_index("bytes") < 0:
                there = ", ".join(f"{name} ({type_})" for name, type_ in columns.items())
                raise UserError(f"{path}: has no column image with bytes (it has: {there}); {_REMEDY}")
            yield file
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged, or not a readable parquet file ({error}); copy it again") from None
