"""Write one shard at every level, in a worker process; or keep the one that an earlier, interrupted run wrote.

The tars appear under their names when they are complete. A sidecar in DIR/.parts, written after them, holds their index
tables and hashes: a shard is finished when its sidecar is there and agrees with the tars.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import webdataset

from common.atomic_writes import publish
from common.errors import UserError
from data_shards.format import index
from data_shards.format.image_codec import encode
from data_shards.format.manifest import UNFINISHED, Shard
from data_shards.format.pyramid import levels_of
from data_shards.format.tars import entries, sha256
from data_shards.sources.base import Sample

from .hashed_file import HashedFile
from .recipe import Settings


@dataclass(frozen=True)
class ShardJob:
    """What a worker needs to write shard `number`, whose first sample is `start` of the set.

    columns: of the largest level's index. recipe_hash: of what decides the bytes.
    """

    out: Path
    number: int
    start: int
    samples: Iterable[Sample]
    settings: Settings
    columns: index.Columns
    recipe_hash: str

    def tar(self, level: int) -> Path:
        """The path of the shard at a level."""
        return self.out / str(level) / f"{self.number:05d}.tar"

    @property
    def sidecar(self) -> Path:
        """The path of what says that the shard is finished."""
        return self.out / UNFINISHED / f"{self.number:05d}.npz"


class WrittenShard(NamedTuple):
    """Index table and manifest entry of one shard, by level."""

    tables: dict[int, index.Table]
    shards: dict[int, Shard]


def write_shard(job: ShardJob) -> WrittenShard:
    """Write one shard at every level, or return the finished one of an earlier run. Runs in a worker process."""
    finished = _finished(job)
    if finished is not None:
        return finished
    tables: dict[int, index.Table] = {}
    shards: dict[int, Shard] = {}
    for level, (digest, samples) in _write_tars(job).items():
        path, top = job.tar(level), level == job.settings.levels[0]
        table = index.tabulate(path, entries(path), job.columns if top else index.Columns())
        if len(table["offset"]) != samples:
            raise UserError(f"{path}: another program wrote into it; run the same command again")
        tables[level] = table
        shards[level] = Shard(name=path.name, samples=samples, bytes=path.stat().st_size, sha256=digest)
    written = WrittenShard(tables, shards)
    _write_sidecar(job, written)
    return written


def _write_tars(job: ShardJob) -> dict[int, tuple[str, int]]:
    """Write the tars of all levels. Returns sha256 and number of samples by level."""
    levels = job.settings.levels
    for level in levels:
        job.tar(level).parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files = {level: stack.enter_context(HashedFile(job.tar(level))) for level in levels}
        tars = {level: _tar_writer(file) for level, file in files.items()}
        count = 0
        for sample in job.samples:
            _write_sample(tars, f"{job.start + count:09d}", sample, job.settings)
            count += 1
        for level, tar in tars.items():
            tar.close()
            files[level].publish()
    return {level: (file.sha256, count) for level, file in files.items()}


def _tar_writer(file: HashedFile) -> webdataset.TarWriter:
    """A writer of tars that carry no trace of time or user. We encode the members ourselves."""
    return webdataset.TarWriter(file, mtime=0, user="idgan", group="idgan", encoder=False)


def _write_sample(tars: dict[int, webdataset.TarWriter], key: str, sample: Sample, settings: Settings) -> None:
    """Append a sample to the tar of every level; the annotation goes into the largest level's alone."""
    for level, image in levels_of(sample.image, sample.own, settings.levels).items():
        members = {"__key__": key, settings.codec.extension: encode(image, settings.codec)}
        if level == settings.levels[0]:
            members["json"] = _annotation(sample)
        tars[level].write(members)


def _annotation(sample: Sample) -> bytes:
    """The json member of a sample: its name, the md5 of its CHW bytes, its labels and factors."""
    pixels = np.ascontiguousarray(sample.image.transpose(2, 0, 1)).tobytes()
    content = {"name": sample.name, "md5": hashlib.md5(pixels).hexdigest(), "labels": sample.labels}
    if sample.factors:
        content["factors"] = sample.factors
    if sample.values:
        content["values"] = sample.values
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _write_sidecar(job: ShardJob, written: WrittenShard) -> None:
    stream = io.BytesIO()
    note = {"recipe": job.recipe_hash, "shards": {level: shard.model_dump() for level, shard in written.shards.items()}}
    arrays: dict[str, Any] = {
        f"{level}/{name}": values for level, table in written.tables.items() for name, values in table.items()
    }
    np.savez(stream, allow_pickle=False, note=np.array(json.dumps(note)), **arrays)
    publish(job.sidecar, stream.getvalue())


def _finished(job: ShardJob) -> WrittenShard | None:
    """Return what an earlier run wrote, where the recipe's hash, sidecar, sizes and hashes all agree; else None."""
    try:
        with np.load(job.sidecar, allow_pickle=False) as arrays:
            note = json.loads(str(arrays["note"]))
            tables: dict[int, index.Table] = {level: {} for level in job.settings.levels}
            for key in sorted(set(arrays.files) - {"note"}):
                level, name = key.split("/", 1)
                tables[int(level)][name] = arrays[key]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # missing, or cut short by a crash
        return None
    shards = {int(level): Shard.model_validate(shard) for level, shard in note["shards"].items()}
    if note["recipe"] != job.recipe_hash or any(index.CRC32C not in table for table in tables.values()):
        return None  # another recipe, or a version that knew no checksums
    unchanged = all(_unchanged(job.tar(level), shard) for level, shard in shards.items())
    return WrittenShard(tables, shards) if unchanged else None


def _unchanged(path: Path, shard: Shard) -> bool:
    return path.is_file() and path.stat().st_size == shard.bytes and sha256(path) == shard.sha256
