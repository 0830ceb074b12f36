"""The records of wandb's own files, RUN/wandb/*/*.wandb: messages of wandb's own protocol in the form of LevelDB's log.

wandb had a reader for it, wandb.sdk.internal.datastore, which 0.28 was the last version to ship.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768  # bytes
HEAD = struct.Struct("<IHB")  # checksum, length, whether the record begins or ends here
WHOLE, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """Every complete record, as wandb_internal_pb2.Record."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, payload = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + HEAD.size <= len(data):
        if BLOCK - at % BLOCK < HEAD.size:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, part = HEAD.unpack_from(data, at)
        piece = data[at + HEAD.size : at + HEAD.size + length]
        assert checksum == zlib.crc32(bytes([part]) + piece)
        payload, at = payload + piece, at + HEAD.size + length
        if part in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(payload)
            payload = b""
            yield record


def history(path: Path) -> list[dict[str, Any]]:
    """The rows of a file: its values by name, and `_step`."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def settings(path: Path) -> dict[str, Any]:
    """The config that a file ends with."""
    found: dict[str, Any] = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "config":
            found |= {item.key: json.loads(item.value_json) for item in record.config.update}
    return found


def run_ids(path: Path) -> set[str]:
    return {record.run.run_id for record in records(path) if record.WhichOneof("record_type") == "run"}
