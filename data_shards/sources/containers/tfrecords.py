"""Read the TFRecords of the PGGAN code without TensorFlow.

Framing (tensorflow/core/lib/io/record_writer.h): uint64 length, uint32 masked crc32c of the length's bytes, the
data, uint32 masked crc32c of the data; little-endian. The data is a tf.train.Example with the features `shape`
int64[3] = C, H, W and `data`, raw uint8. Record k is image order[k], order = RandomState(123).shuffle(arange(N)).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np
from PIL import Image

from common.errors import UserError
from data_shards.format.tars import MAX_MEMBER

from .image_store import Fault, Photo, Store
from .tf_example import parse_example

_COPY = "copy the file again"


@dataclass(frozen=True)
class RecordStore(Store):
    """The images of one TFRecords file, which holds one resolution. A photo's place: record, offset, length."""

    path: Path

    def photos(self) -> list[Photo]:
        """Return all records, named and sorted by image number."""
        places = index_records(self.path)
        order = np.arange(len(places))
        np.random.RandomState(123).shuffle(order)
        named = zip(order.tolist(), enumerate(places), strict=True)
        return sorted(Photo(f"{image:05d}", f"{image:05d}", (k, *place)) for image, (k, place) in named)

    def read(self, photo: Photo) -> bytes:
        """Return the data of a record, whose checksum is verified."""
        _, offset, length = photo.place
        with open(self.path, "rb") as stream:
            stream.seek(offset)
            data, crc = stream.read(length), stream.read(4)
        if len(data) != length or len(crc) != 4:
            raise Fault("is truncated", _COPY)
        if struct.unpack("<I", crc)[0] != masked_crc(data):
            raise Fault("has a wrong crc32c of its data", _COPY)
        return data

    def where(self, photo: Photo) -> str:
        """Return the image's file and record."""
        return f"{self.path.name}: record {photo.place[0]} (image {photo.name})"

    def open(self, data: bytes) -> Image.Image:
        """Decode a record: raw pixels in a tf.train.Example."""
        try:
            features = parse_example(data)
        except ValueError as error:
            raise Fault(f"is not a tf.train.Example ({error})", _COPY) from None
        shape, pixels = features.get("shape"), features.get("data")
        if not isinstance(shape, list) or not isinstance(pixels, bytes):
            raise Fault(f"has the features {', '.join(sorted(features))}, not shape (int64) and data (bytes)", _COPY)
        if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1 or shape[0] * shape[1] * shape[2] != len(pixels):
            raise Fault(f"has the shape {shape} and {len(pixels)} bytes of data, not C x H x W, C = 1 or 3", _COPY)
        image = np.frombuffer(pixels, np.uint8).reshape(shape).transpose(1, 2, 0)
        return Image.fromarray(np.ascontiguousarray(image if shape[0] == 3 else image[..., 0]))


def largest_records(paths: Sequence[Path]) -> Path:
    """Return the file of the largest resolution: NAME-rNN.tfrecords holds 2^NN px.

    Raises UserError where the names do not say which that is.
    """
    matches = {path: re.search(r"-r(\d\d)$", path.stem) for path in paths}
    named = {path: int(match[1]) for path, match in matches.items() if match}
    if not named and len(paths) == 1:
        return paths[0]
    best = [path for path, level in named.items() if level == max(named.values())]
    if len(best) != 1:
        names = ", ".join(path.name for path in best or paths)
        raise UserError(f"{paths[0].parent}: cannot choose among {names}; name the file to read")
    return best[0]


def masked_crc(data: bytes) -> int:
    """Return the crc32c, rotated by 15 bits and moved by a constant, as the format stores it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def index_records(path: Path) -> list[tuple[int, int]]:
    """Return offset and length in bytes of each record's data.

    Raises UserError where the framing is damaged, because all that follows is then lost.
    """
    places: list[tuple[int, int]] = []
    if not path.is_file():
        raise UserError(f"{path}: no such file; name the TFRecords file or its folder")
    total = path.stat().st_size
    with open(path, "rb") as stream:
        while stream.tell() < total:
            places.append(_place(path, stream, len(places), total))
            stream.seek(sum(places[-1]) + 4)
    if not places:
        raise UserError(f"{path}: holds no records; {_COPY}")
    return places


def _place(path: Path, stream: BinaryIO, number: int, total: int) -> tuple[int, int]:
    """Offset and length of the record that begins at the stream's position. total: bytes of the file."""
    header = stream.read(12)
    if len(header) == 12:
        length, crc = struct.unpack("<QI", header)
        if crc != masked_crc(header[:8]):
            raise UserError(f"{path}: record {number} has a wrong crc32c of its length; {_COPY}")
        if length > MAX_MEMBER:
            raise UserError(f"{path}: record {number} has {length} bytes, more than {MAX_MEMBER}; name another file")
        if stream.tell() + length + 4 <= total:
            return stream.tell(), length
    raise UserError(f"{path}: record {number} is truncated; {_COPY}")
