"""Read the protocol buffer tf.train.Example strictly (tensorflow/core/example/feature.proto):

Example { Features features = 1 }, Features { map<string, Feature> feature = 1 },
Feature { oneof: BytesList bytes_list = 1, FloatList float_list = 2, Int64List int64_list = 3 }, and each list
{ repeated value = 1 }.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_BYTES_LIST, _INT64_LIST = 1, 3  # fields of Feature


def parse_example(data: bytes) -> dict[str, bytes | list[int]]:
    """Parse a tf.train.Example into features by name: the bytes of a list of one, or a list of int64.

    Other kinds are left out. Raises ValueError where the data is malformed.
    """
    values_by_name: dict[str, bytes | list[int]] = {}
    for features in _messages(data, 1):
        for entry in _messages(features, 1):
            _read_entry(entry, values_by_name)
    return values_by_name


def _read_entry(entry: bytes, values_by_name: dict[str, bytes | list[int]]) -> None:
    """Add one entry of the map to `values_by_name`: name and feature."""
    name = b"".join(_messages(entry, 1)).decode()
    for feature in _messages(entry, 2):
        for values in _messages(feature, _BYTES_LIST):
            (values_by_name[name],) = _messages(values, 1)
        for values in _messages(feature, _INT64_LIST):
            values_by_name[name] = _int64s(values)


def _messages(data: bytes, number: int) -> list[bytes]:
    """The length-delimited fields of this number."""
    messages = []
    for field, content in _fields(data):
        if field != number:
            continue
        if not isinstance(content, bytes):
            raise ValueError(f"field {number} is not length-delimited")
        messages.append(content)
    return messages


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and content of each field, in order: varints as integers, all else as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + length > len(data):
            raise ValueError(f"a field of {length} bytes at byte {at} of {len(data)}")
        yield key >> 3, data[at : at + length]
        at += length


def _int64s(data: bytes) -> list[int]:
    """Values of an Int64List, packed or not."""
    values: list[int] = []
    for number, content in _fields(data):
        if number != 1:
            continue
        if isinstance(content, int):
            values.append(content)
            continue
        at = 0
        while at < len(content):
            value, at = _varint(content, at)
            values.append(value)
    return [value - 2**64 if value >= 2**63 else value for value in values]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read an integer of 7 bits a byte, the lowest first. Returns it, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("an integer is cut off")
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError("an integer has more than 10 bytes")
