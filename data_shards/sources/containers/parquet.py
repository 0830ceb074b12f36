"""Read images from parquet files, as Hugging Face and others publish them.

The column of the images is a struct of bytes and path (Hugging Face) or plain bytes. The other columns may be labels.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from common import shipped
from common.errors import UserError
from data_shards.format.label_columns import Value
from data_shards.format.litter import litter_on_path
from data_shards.format.tars import MAX_MEMBER

from .image_store import Fault, Photo, Store

MAX_GROUP = 8 * 2**30  # bytes: a row group is held in memory
_NAMES = ("image", "img", "photo", "picture", "jpg", "jpeg", "png", "webp", "pixel_values", "bytes")
_REMEDY = "name files with an image column as Hugging Face writes it, or a folder of images"


@dataclass(frozen=True)
class ParquetStore(Store):
    """The rows of parquet files, in order. A photo's place: file, row group, row of the group, row of the file.

    column: of the images.
    """

    paths: tuple[Path, ...]
    column: str

    def photos(self) -> list[Photo]:
        """Return all rows in order, named by their stored paths where those are unique, else by number."""
        rows = [row for number, path in enumerate(self.paths) for row in _rows(number, path, self.column)]
        names = [PurePosixPath(path).name for path, _ in rows]
        times = Counter(names)
        photos = []
        for i, (name, (_, place)) in enumerate(zip(names, rows, strict=True)):
            unique = name and times[name] == 1
            photos.append(Photo(name if unique else f"{i:05d}", self.paths[place[0]].name, place))
        return photos

    def count(self) -> int:
        """Return the number of rows, without reading them."""
        total = 0
        for path in self.paths:
            with _readable(path, self.column) as file:
                total += file.metadata.num_rows
        return total

    def read(self, photo: Photo) -> bytes:
        """Return the bytes in a row's image column."""
        file, group, row, _ = photo.place
        path = self.paths[file]
        data = _images(path, self.column, group, path.stat().st_mtime_ns)[row].as_py()
        if data is None:
            raise Fault("holds no image bytes", "remove the row")
        if len(data) > MAX_MEMBER:
            raise Fault(f"holds {len(data)} bytes, more than {MAX_MEMBER}", "shrink the image, or remove the row")
        return bytes(data)

    def where(self, photo: Photo) -> str:
        """Return the image's file and row."""
        return f"{self.paths[photo.place[0]].name}: row {photo.place[3]} ({photo.name})"

    def values(self) -> Iterator[dict[str, Value]]:
        """Yield what the other columns say about each image, in the order of `photos`, without empty fields.

        A column of lists, structs or bytes has no values that could be labels; it is there as an empty tuple.
        """
        for path in self.paths:
            with _readable(path, self.column) as file:
                fields = [field for field in file.schema_arrow if field.name != self.column]
                nested = {field.name: () for field in fields if not _is_plain(field.type)}
                plain = [field.name for field in fields if field.name not in nested]
                for group in range(file.num_row_groups):
                    rows = (
                        file.read_row_group(group, columns=plain).to_pylist() if plain else [{}] * _count(file, group)
                    )
                    yield from ({k: v for k, v in row.items() if v is not None} | nested for row in rows)

    def classes(self) -> dict[str, tuple[str, ...]]:
        """Return the names of classes by column, which Hugging Face keeps in the schema of the first file."""
        with _readable(self.paths[0], self.column) as file:
            metadata = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
        return _class_names(metadata)


def parquet_files(src: Path) -> list[Path]:
    """Return the parquet files below a folder, sorted, without hidden ones."""
    return sorted(path for path in src.rglob("*.parquet") if litter_on_path(path.relative_to(src).as_posix()) is None)


def open_parquet(paths: Sequence[Path], column: str | None = None) -> ParquetStore:
    """Open parquet files. column: of the images; None looks for it.

    Raises UserError where there is none, or several that nothing tells apart.
    """
    with _opened(paths[0]) as file:
        schema = {field.name: field.type for field in file.schema_arrow}
    images = [name for name, kind in schema.items() if _holds_bytes(kind)]
    chosen = column or next((name for name in _NAMES if name in images), images[0] if len(images) == 1 else None)
    if chosen is None and images:
        raise UserError(
            f"{paths[0]}: has {len(images)} columns with bytes ({', '.join(images)}); "
            f"choose that of the images with --image {images[0]}"
        )
    return ParquetStore(tuple(paths), chosen or "image")


def _rows(number: int, path: Path, column: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the stored path ("" without one) and the place of every row of file `number`."""
    with _readable(path, column) as file:
        kind = file.schema_arrow.field(column).type
        names = [f"{column}.path"] if _has_field(kind, "path") else []
        first = 0
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=names)
            paths = table[column].combine_chunks().field("path").to_pylist() if names else [""] * _count(file, group)
            for row, name in enumerate(paths):
                yield name or "", (number, group, row, first + row)
            first += len(paths)


def _count(file: Any, group: int) -> int:
    return int(file.metadata.row_group(group).num_rows)


def _has_field(kind: Any, name: str) -> bool:
    from pyarrow.types import is_struct

    return bool(is_struct(kind)) and kind.get_field_index(name) >= 0


def _holds_bytes(kind: Any) -> bool:
    """Return whether a column may hold encoded images."""
    from pyarrow.types import is_binary, is_large_binary

    return bool(is_binary(kind) or is_large_binary(kind)) or _has_field(kind, "bytes")


def _is_plain(kind: Any) -> bool:
    """Return whether a column holds numbers, words or truth values."""
    from pyarrow import types

    checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string)
    return any(check(kind.value_type if types.is_dictionary(kind) else kind) for check in checks)


def _class_names(metadata: bytes) -> dict[str, tuple[str, ...]]:
    """Read the ClassLabel features out of Hugging Face's metadata; what is not as they write it has no names."""
    try:
        features = json.loads(metadata)["info"]["features"]
        named = {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
        return {name: tuple(map(str, names)) for name, names in named.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


@functools.lru_cache(maxsize=1)
def _images(path: Path, column: str, group: int, mtime: int) -> Any:
    """Read the image bytes of a row group: parquet is read in no smaller pieces. mtime: a changed file is read anew."""
    with _readable(path, column) as file:
        size = file.metadata.row_group(group).total_byte_size
        if size > MAX_GROUP:
            raise UserError(f"{path}: row group {group} has {size} bytes, more than {MAX_GROUP}; write smaller ones")
        struct = _has_field(file.schema_arrow.field(column).type, "bytes")
        images = file.read_row_group(group, columns=[f"{column}.bytes" if struct else column])[column].combine_chunks()
        return images.field("bytes") if struct else images


@contextmanager
def _readable(path: Path, column: str) -> Iterator[Any]:
    """Open a file that has this image column. Raises UserError where it has none, or cannot be read."""
    with _opened(path) as file:
        columns = {field.name: field.type for field in file.schema_arrow}
        if column not in columns or not _holds_bytes(columns[column]):
            there = ", ".join(f"{name} ({type_})" for name, type_ in columns.items())
            raise UserError(f"{path}: has no column {column} with bytes (it has: {there}); {_REMEDY}")
        yield file


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file. Raises UserError where it cannot be read."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError(f"{path}: reading parquet needs pyarrow; {shipped.installing('parquet')}") from None
    try:
        with ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged, or not a readable parquet file ({error}); copy it again") from None
