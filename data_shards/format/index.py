"""index.npz: where every sample's image is in the tars, so that it is read by position; with labels and factors.

One index per level, in the folder of its tars: shard int32 [N], offset int64 [N], length int64 [N], both in bytes,
crc32c uint32 [N] of the image's bytes (Castagnoli; sets of before version 0.3 have none). That of the largest level
also holds factors int64 [N, F] and label_NAME int64 [N].
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from common.arrays import Int64
from common.atomic_writes import publish
from common.errors import UserError, joined
from common.paths import Location, Url
from data_shards.remote import requests

from . import npz
from .label_columns import Numbering, Value, as_integer, from_text
from .manifest import Factor, Label, LevelInfo, Shard, how_to_index
from .tars import Entry, read, sha256, tars_in

FILE = "index.npz"
CRC32C = "crc32c"  # the column of checksums
# Members that hold one label each, by extension, with the label's name: those that webdataset reads as integers.
LABEL_MEMBERS = {
    "cls": "class", "class": "class", "cls2": "cls2", "label": "label", "target": "target",
    "id": "id", "index": "index", "inx": "inx", "count": "count",
}  # fmt: skip
Table = dict[str, NDArray[Any]]


class Columns(NamedTuple):
    """Names of what an index holds of each sample: classes of factors, labels, values of continuous factors."""

    factors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


def columns_of(factors: Sequence[Factor], labels: Sequence[Label]) -> Columns:
    """Return the columns of a set with these factors and labels."""
    return Columns(
        tuple(factor.name for factor in factors),
        tuple(label.name for label in labels),
        tuple(factor.name for factor in factors if factor.range is not None),
    )


class SampleValues(NamedTuple):
    """What the members of a sample say: what may be labels or factors by name, and values of continuous factors."""

    labels: dict[str, Value]
    continuous: dict[str, float]


def tabulate(path: Path, entries: Sequence[Entry], columns: Columns, numbering: Numbering | None = None) -> Table:
    """Return the index of one tar, without its shard column.

    columns: what to read from the members. numbering: of labels that are words. Raises UserError where a sample lacks
    a column.
    """
    table: Table = {
        "offset": np.array([e.image.offset for e in entries], np.int64),
        "length": np.array([e.image.length for e in entries], np.int64),
        CRC32C: _checksums(path, entries),
    }
    if not any(columns):
        return table
    samples = member_values(path, entries)
    integers = [_integers(sample.labels) | dict(numbering(sample.labels) if numbering else ()) for sample in samples]
    if columns.factors:
        table["factors"] = _stacked(path, entries, integers, columns.factors, np.int64)
    if columns.values:
        continuous = [sample.continuous for sample in samples]
        table["factor_values"] = _stacked(path, entries, continuous, columns.values, np.float64)
    for label in columns.labels:
        table[f"label_{label}"] = np.array(_column(path, entries, integers, label, "integer"), np.int64)
    return table


def _checksums(path: Path, entries: Sequence[Entry]) -> NDArray[np.uint32]:
    """The crc32c of every image's bytes."""
    with open(path, "rb") as tar:
        return np.array([google_crc32c.value(read(tar.fileno(), entry.image)) for entry in entries], np.uint32)


def _stacked(
    path: Path, entries: Sequence[Entry], samples: Sequence[Mapping[str, Any]], names: Sequence[str], dtype: type
) -> NDArray[Any]:
    """Numbers of these names of every sample: [samples, names]."""
    what = "integer" if dtype is np.int64 else "value"
    columns: NDArray[Any] = np.array([_column(path, entries, samples, name, what) for name in names], dtype)
    return np.ascontiguousarray(columns.T)  # the layout in memory decides the bytes of the file


def _column(
    path: Path, entries: Sequence[Entry], samples: Sequence[Mapping[str, Any]], name: str, what: str
) -> list[Any]:
    """The number of this name of every sample."""
    for entry, sample in zip(entries, samples, strict=True):
        if name not in sample:
            raise UserError(f"{path}: sample {entry.key} has no {what} {name} in its json; write the tar again")
    return [sample[name] for sample in samples]


def member_values(path: Path, entries: Sequence[Entry]) -> list[SampleValues]:
    """Return what the members of every sample say: its json, and members for one label such as cls.

    One level of nesting in the json is opened. Values of continuous factors stand under "values" there.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        return [_sample_values(path, handle, entry) for entry in entries]
    finally:
        os.close(handle)


def _sample_values(path: Path, handle: int, entry: Entry) -> SampleValues:
    labels: dict[str, Value] = {}
    continuous: dict[str, float] = {}
    if "json" in entry.others:
        member = entry.others["json"]
        content = _parsed(path, member.name, read(handle, member))
        labels, continuous = _label_values(content), _continuous(content)
    for extension, name in LABEL_MEMBERS.items():
        if extension in entry.others:
            labels[name] = _text_value(read(handle, entry.others[extension]))
    return SampleValues(labels, continuous)


def _parsed(path: Path, name: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise UserError(f"{path}: member {name} is not valid json ({error}); write the tar again") from None


def _text_value(data: bytes) -> Value:
    """The value of a member that holds one label; None where it is no text."""
    try:
        return from_text(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None


def _continuous(content: Any) -> dict[str, float]:
    """The numbers under "values"."""
    values = content.get("values") if isinstance(content, dict) else None
    numbers = values if isinstance(values, dict) else {}
    return {name: float(value) for name, value in numbers.items() if type(value) in (int, float)}


def _label_values(content: Any) -> dict[str, Value]:
    """What may be a label in a json: its values by name, and those one level below where it has none of that name."""
    if not isinstance(content, dict):
        return {}
    labels: dict[str, Value] = {}
    for part in (part for part in content.values() if isinstance(part, dict)):
        labels |= {name: value for name, value in part.items() if name not in labels or type(value) is int}
    own = {name: value for name, value in content.items() if value is not None and not isinstance(value, dict)}
    return {name: value for name, value in (labels | own).items() if name}


def _integers(labels: Mapping[str, Value]) -> dict[str, int]:
    """The integers among the values of a sample."""
    numbers = ((name, as_integer(value)) for name, value in labels.items())
    return {name: number for name, number in numbers if number is not None}


def join(tables: Sequence[Table]) -> Table:
    """Return one index out of the shards' tables, in order."""
    shard = np.repeat(np.arange(len(tables), dtype=np.int32), [len(t["offset"]) for t in tables])
    return {"shard": shard} | {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}


def save(folder: Path, table: Table, recorded: str | None = None) -> str:
    """Write FOLDER/index.npz; returns its sha256.

    recorded: the hash of an earlier index. The same arrays get the same hash again, also where an older version of
    Python wrote them, and without checksums where that index has none: the set stays the one that runs have recorded.
    """
    arrays = {name: table[name] for name in sorted(table)}
    data = npz.pack(arrays)
    if recorded is not None and hashlib.sha256(data).hexdigest() != recorded:
        plain = {name: values for name, values in arrays.items() if name != CRC32C}
        older = (npz.pack(arrays, older=True), npz.pack(plain), npz.pack(plain, older=True))
        data = next((form for form in older if hashlib.sha256(form).hexdigest() == recorded), data)
    publish(folder / FILE, data)
    return hashlib.sha256(data).hexdigest()


def load(root: Location, info: LevelInfo) -> Table:
    """Read the index of a level of the set in a folder or at a URL.

    Raises UserError where it is missing, or not the one of the manifest.
    """
    path = root / info.folder / info.index
    remedy = how_to_index(root)
    try:
        data = _fetched(path, info.index_sha256) if isinstance(path, Url) else path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {remedy}") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != info.index_sha256:
        raise UserError(f"{path}: sha256 is {digest}, the manifest has {info.index_sha256}; {remedy}")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        table: Table = dict(arrays)
    _consistent(path, table, info, remedy)
    return table


@functools.lru_cache(maxsize=4)
def _fetched(url: Url, sha256: str) -> bytes:
    """Read an index from a URL once, for a level and for its set's labels. sha256: of the one that is meant."""
    return requests.read(url)


def _consistent(path: Location, table: Table, info: LevelInfo, remedy: str) -> None:
    """Refuse an index that points outside its tars: in a set from elsewhere its hash proves nothing."""
    sizes = np.array([shard.bytes for shard in info.shards])
    samples = [shard.samples for shard in info.shards]
    right = np.repeat(np.arange(len(samples)), samples)
    ok = {"shard", "offset", "length"} <= table.keys() and np.array_equal(table["shard"], right)
    ok = ok and bool(np.all((table["offset"] >= 0) & (table["length"] > 0)))
    ok = ok and bool(np.all(table["offset"] + table["length"] <= sizes[table["shard"]]))
    ok = ok and table.get(CRC32C, table["shard"]).shape == table["shard"].shape
    if not ok:
        raise UserError(f"{path}: does not fit the shards of the manifest; {remedy}")


def check_shards(root: Path, info: LevelInfo) -> None:
    """Check that each tar is there with its recorded size; one that is newer than the index is hashed again.

    Raises one UserError that lists every tar that is missing, truncated, changed or foreign.
    """
    folder = root / info.folder
    known = {shard.name for shard in info.shards}
    problems = [
        f"{path}: is not in the manifest (a foreign shard); remove it, or run `python -m data_shards index {root}`"
        for path in tars_in(folder)
        if path.name not in known
    ]
    indexed = (folder / info.index).stat().st_mtime_ns
    statuses = {shard.name: _status(folder / shard.name) for shard in info.shards}
    newer = {name for name, status in statuses.items() if status is not None and status.st_mtime_ns > indexed}
    for shard in info.shards:
        problem = _problem(root, folder / shard.name, shard, statuses[shard.name], shard.name in newer)
        problems += [problem] if problem else []
    if problems:
        raise joined(f"{folder}", problems)
    if newer and os.access(folder / info.index, os.W_OK):
        os.utime(folder / info.index)  # a copy changed the times, not the bytes: do not hash at every start


def _status(path: Path) -> os.stat_result | None:
    """Size and times of a plain file, or None. One call of the system: a set may have thousands of tars far away."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _problem(root: Path, path: Path, shard: Shard, status: os.stat_result | None, hashed: bool) -> str | None:
    """What is wrong with a tar, or None. status: of the tar; hashed: whether its bytes are to be looked at, too."""
    if status is None:
        return f"{path}: missing; copy it again, or make the set again in a new folder"
    size = status.st_size
    if size != shard.bytes:
        word = "truncated" if size < shard.bytes else "foreign"
        return (
            f"{path}: has {size} bytes, the manifest has {shard.bytes} ({word}); copy it again, "
            f"or run `python -m data_shards index {root}` if the change is wanted"
        )
    if hashed and sha256(path) != shard.sha256:
        return (
            f"{path}: the index is older than its tar, and the bytes have changed; "
            f"run `python -m data_shards index {root}`"
        )
    return None


def labels_of(table: Mapping[str, NDArray[Any]]) -> dict[str, Int64]:
    """Return the label columns of an index, by the labels' names."""
    return {name.removeprefix("label_"): values for name, values in table.items() if name.startswith("label_")}
