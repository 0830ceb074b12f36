"""Images -> one WebDataset per resolution, in parallel, resumable, with the same bytes every time.

The sorted source fixes sample -> shard up front. A worker writes one shard at all levels under temporary
names, fsyncs and renames it, and leaves a sidecar in DIR/.parts; the index and the manifest are written
last, then .parts goes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import webdataset

from common.atomic_writes import publish, sync_folder
from common.errors import UserError
from common.process_pool import ordered
from data_shards.format import index, manifest
from data_shards.format.image_codec import encode, tool_versions
from data_shards.format.manifest import Codec, LevelInfo, Manifest, Shard, Skipped
from data_shards.format.pyramid import pyramid
from data_shards.format.tars import entries, sha256
from data_shards.sources.base import Offender, Sample, Source

log = logging.getLogger(__name__)
_TARGET = 128 * 2**20  # bytes of a shard of the largest level, roughly
PARTS = ".parts"


@dataclass(frozen=True)
class Settings:
    """What decides the bytes, beside the source. levels: powers of two, the largest first."""

    levels: tuple[int, ...]
    codec: Codec
    samples_per_shard: int


@dataclass(frozen=True)
class _Job:
    out: Path
    number: int
    start: int
    part: Iterable[Sample]
    settings: Settings
    factors: tuple[str, ...]
    labels: tuple[str, ...]
    recipe: str


Written = tuple[dict[int, index.Table], dict[int, Shard]]  # of one shard, by level


def default_samples_per_shard(resolution: int, channels: int) -> int:
    """About 128 MB at the largest level, at most 4,096 samples."""
    return min(4096, max(1, _TARGET // (resolution**2 * channels // 2 + 2048)))


def make(
    source: Source,
    settings: Settings,
    out: Path,
    skipped: Sequence[Offender] = (),
    workers: int = 1,
    advance: Callable[[int], None] = lambda samples: None,
) -> Manifest:
    """Write the set (what an earlier run left complete is kept) and its manifest. Returns the manifest."""
    recipe = recipe_of(source, settings)
    digest = _recipe_hash(recipe, source)
    with claimed(out, recipe, source.listing_sha256):
        return _make(source, settings, out, recipe, digest, skipped, workers, advance)


def _make(
    source: Source,
    settings: Settings,
    out: Path,
    recipe: dict[str, Any],
    digest: str,
    skipped: Sequence[Offender],
    workers: int,
    advance: Callable[[int], None],
) -> Manifest:
    written: list[Written] = []
    for tables, shards in ordered(_write_shard, _jobs(source, settings, out, digest), workers):
        written.append((tables, shards))
        advance(shards[settings.levels[0]].samples)
    columns = index.labels_of(index.join([tables[settings.levels[0]] for tables, _ in written]))
    made = Manifest(
        schema_version=manifest.SCHEMA_VERSION,
        data_set=source.data_set,
        recipe=recipe,
        source_sha256=source.listing_sha256,
        channels=source.channels,
        count=len(source.names),
        codec=settings.codec,
        levels={level: _level(out, level, written) for level in settings.levels},
        factors=source.factors,
        labels=source.labels,
        skipped=tuple(Skipped(file=o.file, rule=o.rule) for o in skipped),
        notes=source.notes + source.findings(columns),
        tools=tool_versions(),
    )
    publish(out / manifest.FILE, manifest.to_bytes(made))
    shutil.rmtree(out / PARTS)
    return manifest.load(out)


def _level(out: Path, level: int, written: Sequence[Written]) -> LevelInfo:
    """Write the index of a level, and describe the level."""
    digest = index.save(out / str(level), index.join([tables[level] for tables, _ in written]))
    shards = tuple(shards[level] for _, shards in written)
    return LevelInfo(folder=str(level), index=index.FILE, index_sha256=digest, shards=shards)


def recipe_of(source: Source, settings: Settings) -> dict[str, Any]:
    """JSON values that decide every byte, given the source's listing and the versions of the tools."""
    return source.recipe | {
        "levels": list(settings.levels),
        "pyramid": "box mean of the largest level, rounded once, half up",
        "codec": settings.codec.model_dump(),
        "samples_per_shard": settings.samples_per_shard,
    }


def already_complete(out: Path, recipe: dict[str, Any], source_sha256: str) -> bool:
    """Whether DIR holds exactly this set. A UserError where it holds another, or this one with damage."""
    if not (out / manifest.FILE).exists():
        return False
    found = manifest.load(out)
    _same(out, found.recipe | {"files": found.source_sha256}, recipe | {"files": source_sha256})
    for level in found.resolutions:
        index.load(out, found.level(level))
        index.check_shards(out, found.level(level))
    shutil.rmtree(out / PARTS, ignore_errors=True)  # a run that died right after its manifest
    return True


@contextlib.contextmanager
def claimed(out: Path, recipe: dict[str, Any], source_sha256: str) -> Iterator[None]:
    """Claim DIR for this recipe, or take up what an earlier run with the same one left. One run at a time: two would
    write into the same files. The system lets the lock go when its process ends."""
    plan = out / PARTS / "recipe.json"
    if not plan.exists() and out.exists() and any(p.name != PARTS for p in out.iterdir()):
        raise UserError(f"--out is {out}: it is not empty and holds no unfinished set; choose another folder")
    plan.parent.mkdir(parents=True, exist_ok=True)
    with open(plan.parent / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--out is {out}: another `make` writes there; let it end, or choose another folder"
            ) from None
        if plan.exists():
            _same(out, json.loads(plan.read_text()), recipe | {"files": source_sha256})
            for stale in out.rglob("*.tmp"):
                stale.unlink()
        else:
            publish(plan, json.dumps(recipe | {"files": source_sha256}).encode())
        yield


def _same(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    changed = [f"{k}: {old.get(k)} there, {new.get(k)} now" for k in sorted(old | new) if old.get(k) != new.get(k)]
    if changed:
        raise UserError(
            f"--out is {out}: it holds a set made with another recipe ({'; '.join(changed)}); "
            "give the same options, choose another folder, or delete it"
        )


def _recipe_hash(recipe: dict[str, Any], source: Source) -> str:
    text = json.dumps([recipe, source.listing_sha256, tool_versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _jobs(source: Source, settings: Settings, out: Path, digest: str) -> Iterator[_Job]:
    factors = tuple(f.name for f in source.factors)
    labels = tuple(label.name for label in source.labels)
    count, step = len(source.names), settings.samples_per_shard
    for number, start in enumerate(range(0, count, step)):
        part = source.part(start, min(start + step, count))
        yield _Job(out, number, start, part, settings, factors, labels, digest)


def _write_shard(job: _Job) -> Written:
    """Write one shard at every level, or take what stands already. Runs in a worker process."""
    done = _finished(job)
    if done is not None:
        return done
    tables: dict[int, index.Table] = {}
    written: dict[int, Shard] = {}
    for level, (path, digest, samples) in _write_tars(job).items():
        top = level == job.settings.levels[0]
        table = index.tabulate(path, entries(path), job.factors if top else (), job.labels if top else ())
        if len(table["offset"]) != samples:
            raise UserError(f"{path}: something else wrote into it; run the same command again")
        tables[level] = table
        written[level] = Shard(name=path.name, samples=samples, bytes=path.stat().st_size, sha256=digest)
    stream = io.BytesIO()
    note = {"recipe": job.recipe, "shards": {level: shard.model_dump() for level, shard in written.items()}}
    arrays = {f"{level}/{name}": values for level, table in tables.items() for name, values in table.items()}
    np.savez(stream, allow_pickle=False, note=np.array(json.dumps(note)), **arrays)
    publish(_sidecar(job), stream.getvalue())
    return tables, written


def _write_tars(job: _Job) -> dict[int, tuple[Path, str, int]]:
    """Path, sha256 and samples of the new tars by level."""
    paths = {level: job.out / str(level) / f"{job.number:05d}.tar" for level in job.settings.levels}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files = {level: stack.enter_context(_NewFile(path)) for level, path in paths.items()}
        tars = {level: _tar(file) for level, file in files.items()}
        number = job.start
        for number, sample in enumerate(job.part, job.start):
            for level, image in pyramid(sample.image, job.settings.levels).items():
                members = {
                    "__key__": f"{number:09d}",
                    job.settings.codec.extension: encode(image, job.settings.codec),
                }
                if level == job.settings.levels[0]:
                    members["json"] = _annotation(sample)
                tars[level].write(members)
        for level, tar in tars.items():
            tar.close()
            files[level].publish()
    return {level: (path, files[level].sha256, number - job.start + 1) for level, path in paths.items()}


def _tar(file: _NewFile) -> Any:
    return webdataset.TarWriter(file, mtime=0, user="idgan", group="idgan", encoder=False)


def _annotation(sample: Sample) -> bytes:
    pixels = np.ascontiguousarray(sample.image.transpose(2, 0, 1)).tobytes()
    content = {"name": sample.name, "md5": hashlib.md5(pixels).hexdigest(), "labels": sample.labels}
    if sample.factors:
        content["factors"] = sample.factors
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _sidecar(job: _Job) -> Path:
    return job.out / PARTS / f"{job.number:05d}.npz"


def _finished(job: _Job) -> Written | None:
    """What an earlier run wrote, where sidecar, sizes and hashes all agree."""
    try:
        with np.load(_sidecar(job), allow_pickle=False) as arrays:
            note = json.loads(str(arrays["note"]))
            tables: dict[int, index.Table] = {level: {} for level in job.settings.levels}
            for key in sorted(set(arrays.files) - {"note"}):
                level, name = key.split("/")
                tables[int(level)][name] = arrays[key]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # cut short by a crash, or not there
        return None
    shards = {int(level): Shard.model_validate(shard) for level, shard in note["shards"].items()}
    for level, shard in shards.items():
        path = job.out / str(level) / shard.name
        if not path.is_file() or path.stat().st_size != shard.bytes or sha256(path) != shard.sha256:
            return None
    return (tables, shards) if note["recipe"] == job.recipe else None


class _NewFile:
    """A file that hashes what is written and appears under its name only when published."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._digest = hashlib.sha256()
        self._over = False  # an abandoned tarfile writes once more when it is collected

    def __enter__(self) -> _NewFile:
        self._stream: BinaryIO = open(self._temporary, "wb", buffering=2**20)
        return self

    def write(self, data: bytes) -> int:
        if self._over:
            return len(data)
        self._digest.update(data)
        return self._guard(lambda: self._stream.write(data))

    def publish(self) -> None:
        self._guard(self._stream.flush)
        self._guard(lambda: os.fsync(self._stream.fileno()))
        os.replace(self._temporary, self.path)
        sync_folder(self.path.parent)

    def _guard(self, action: Callable[[], Any]) -> Any:
        """The system does not say which file an error of writing is about."""
        try:
            return action()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __exit__(self, *_: object) -> None:
        self._over = True
        with contextlib.suppress(OSError):  # a full disk: the error that matters is on its way
            self._stream.close()
        self._temporary.unlink(missing_ok=True)
