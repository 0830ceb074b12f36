"""index.npz: where every sample stands, so that it is read by position; labels and factors beside it.

One index per level, in the tars' own folder: shard int32 [N], offset int64 [N], length int64 [N]. The
largest level's
also holds factors int64 [N, F] and label_NAME int64 [N].
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.atomic_writes import publish
from common.errors import UserError, joined

from .manifest import LevelInfo
from .tars import Entry, read, sha256

FILE = "index.npz"
Table = dict[str, NDArray[Any]]


def tabulate(path: Path, entries: Sequence[Entry], factors: Sequence[str], labels: Sequence[str]) -> Table:
    """The index of one tar, without its shard column. factors, labels: the names to read from the members."""
    table: Table = {
        "offset": np.array([e.image.offset for e in entries], np.int64),
        "length": np.array([e.image.length for e in entries], np.int64),
    }
    if not factors and not labels:
        return table
    notes = member_values(path, entries)
    if factors:
        table["factors"] = np.array([[_value(path, n, f) for f in factors] for n in notes], np.int64)
    for label in labels:
        table[f"label_{label}"] = np.array([_value(path, n, label) for n in notes], np.int64)
    return table


def member_values(path: Path, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Integers by name for every sample: of its json member (one level of nesting is opened) and its cls
    member."""
    result = []
    handle = os.open(path, os.O_RDONLY)
    try:
        for entry in entries:
            values: dict[str, Any] = {"": entry.key}
            for extension in ("json", "cls"):
                if extension in entry.others:
                    member = entry.others[extension]
                    values |= _integers(path, member.name, extension, read(handle, member))
            result.append(values)
    finally:
        os.close(handle)
    return result


def _integers(path: Path, name: str, extension: str, data: bytes) -> dict[str, int]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise UserError(f"{path}: member {name} is not valid {extension} ({error}); write the tar again") from None
    if extension == "cls":
        return {"class": content} if type(content) is int else {}
    if not isinstance(content, dict):
        return {}
    flat = content | {k: v for part in content.values() if isinstance(part, dict) for k, v in part.items()}
    return {k: v for k, v in flat.items() if type(v) is int and abs(v) < 2**63}


def _value(path: Path, values: dict[str, Any], name: str) -> int:
    if name not in values:
        raise UserError(f"{path}: sample {values['']} has no integer {name} in its json; write the tar again")
    return int(values[name])


def join(tables: Sequence[Table]) -> Table:
    """One index out of the shards' tables, in order."""
    shard = np.repeat(np.arange(len(tables), dtype=np.int32), [len(t["offset"]) for t in tables])
    return {"shard": shard} | {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}


def save(folder: Path, table: Table) -> str:
    """Write FOLDER/index.npz; returns its sha256."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **{name: table[name] for name in sorted(table)})
    publish(folder / FILE, stream.getvalue())
    return hashlib.sha256(stream.getvalue()).hexdigest()


def load(root: Path, info: LevelInfo) -> Table:
    """Open the index of a level; a UserError where it is missing or not the manifest's."""
    path = root / info.folder / info.index
    remedy = f"run `python -m data_shards index {root}`"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {remedy}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != info.index_sha256:
        raise UserError(f"{path}: sha256 is {found}, the manifest has {info.index_sha256}; {remedy}")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        table: Table = dict(arrays)
    _consistent(path, table, info, remedy)
    return table


def _consistent(path: Path, table: Table, info: LevelInfo, remedy: str) -> None:
    """An index of its own making could still point outside its tars."""
    sizes = np.array([shard.bytes for shard in info.shards])
    samples = [shard.samples for shard in info.shards]
    right = np.repeat(np.arange(len(samples)), samples)
    ok = {"shard", "offset", "length"} <= table.keys() and np.array_equal(table["shard"], right)
    ok = ok and bool(np.all((table["offset"] >= 0) & (table["length"] > 0)))
    ok = ok and bool(np.all(table["offset"] + table["length"] <= sizes[table["shard"]]))
    if not ok:
        raise UserError(f"{path}: does not fit the shards of the manifest; {remedy}")


def check_shards(root: Path, info: LevelInfo) -> None:
    """Each tar is there, has its recorded size, and is no newer than the index (else its bytes are hashed
    again).

    Lists every shard that is missing, truncated, changed or foreign at once.
    """
    folder = root / info.folder
    known = {shard.name for shard in info.shards}
    problems = [
        f"{path}: is not in the manifest (a foreign shard); remove it, or run `python -m data_shards index {root}`"
        for path in sorted(folder.glob("*.tar"))
        if path.name not in known
    ]
    made = (folder / info.index).stat().st_mtime_ns
    newer = False
    for shard in info.shards:
        path = folder / shard.name
        if not path.is_file():
            problems.append(f"{path}: missing; copy it again, or make the set again in a new folder")
            continue
        state = path.stat()
        if state.st_size != shard.bytes:
            word = "truncated" if state.st_size < shard.bytes else "foreign"
            problems.append(
                f"{path}: has {state.st_size} bytes, the manifest has {shard.bytes} ({word}); copy it again, "
                f"or run `python -m data_shards index {root}` if the change is wanted"
            )
        elif state.st_mtime_ns > made:
            newer = True
            if sha256(path) != shard.sha256:
                problems.append(
                    f"{path}: the index is older than its tar, and the bytes have changed; "
                    f"run `python -m data_shards index {root}`"
                )
    if problems:
        raise joined(f"{folder}", problems)
    if newer and os.access(folder / info.index, os.W_OK):
        os.utime(folder / info.index)  # a copy changed the times, not the bytes: do not hash at every start


def labels_of(table: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
    """Label columns by name."""
    return {name.removeprefix("label_"): values for name, values in table.items() if name.startswith("label_")}
