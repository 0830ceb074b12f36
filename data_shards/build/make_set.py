"""Images -> one WebDataset per resolution, in parallel, resumable, with the same bytes every time.

The sorted source decides up front which shard a sample goes to. Worker processes write one shard each, at all levels
(`shard_writer`); the index of each level and then the manifest are written last, and the folder .parts is removed.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.atomic_writes import publish
from common.errors import UserError, joined
from common.process_pool import ordered_map
from common.progress import progress_bar
from data_shards.format import index, manifest
from data_shards.format.image_codec import tool_versions
from data_shards.format.manifest import UNFINISHED, LevelInfo, Manifest, Skipped
from data_shards.sources.base import Offender, Scanned, Source

from .output_folder import claimed
from .recipe import Settings, hash_recipe, recipe_of
from .shard_writer import ShardJob, WrittenShard, write_shard

log = logging.getLogger(__name__)


def make_set(source: Source, settings: Settings, out: Path, workers: int = 1, skip_offenders: bool = False) -> Manifest:
    """Look at every image, then write the set; shards that an interrupted run finished are kept.

    skip_offenders: leave unusable images out and list them in the manifest; else they are an error, raised before the
    first shard. Returns the manifest. Raises UserError where an image or the output folder cannot be used.
    """
    scanned = _scan(source, workers)
    offenders = [each.offender for each in scanned if each.offender is not None]
    usable = _without_offenders(source, offenders, skip_offenders)
    recipe = recipe_of(usable, settings)
    with claimed(out, recipe, usable):
        written = _write_shards(usable, settings, out, hash_recipe(recipe, usable), workers)
        top_labels = index.labels_of(index.join([shard.tables[settings.levels[0]] for shard in written]))
        made = Manifest(
            schema_version=manifest.SCHEMA_VERSION,
            data_set=usable.data_set,
            recipe=recipe,
            source_sha256=usable.listing_sha256,
            channels=usable.channels,
            count=len(usable.names),
            codec=settings.codec,
            levels={level: _write_index(out, level, written) for level in settings.levels},
            factors=usable.factors,
            labels=usable.labels,
            skipped=tuple(Skipped(file=o.file, rule=o.rule) for o in offenders),
            notes=usable.notes + _remarks(scanned) + usable.findings(top_labels),
            tools=tool_versions(),
        )
        publish(out / manifest.FILE, manifest.to_bytes(made))
        shutil.rmtree(out / UNFINISHED)
    return manifest.load(out)


def _scan(source: Source, workers: int) -> list[Scanned]:
    """Look at every source file; returns those with something to say: unusable ones, and ones with remarks."""
    with progress_bar() as bar:
        task = bar.add_task("scanning", total=len(source.names))
        told = []
        for scanned in source.scan(workers, preload=[write_shard.__module__]):
            bar.advance(task)
            if any(scanned):
                told.append(scanned)
    return told


def _remarks(scanned: Sequence[Scanned]) -> tuple[str, ...]:
    """Notes on what is done to the images: each remark with the number of images that it is about."""
    counts = Counter(remark for each in scanned for remark in each.remarks)
    return tuple(f"{remark} ({count:,} of them)" for remark, count in sorted(counts.items()))


def _without_offenders(source: Source, offenders: Sequence[Offender], skip: bool) -> Source:
    """Return the source without its unusable images. Raises UserError where there are some, unless `skip` is set."""
    if offenders and not skip:
        lines = [f"{o.file}: {o.rule}; {o.remedy}" for o in offenders]
        raise joined("unusable images (mend them, or leave them out with --on-bad skip)", lines)
    usable = source.without(offenders)
    if not usable.names:
        raise UserError(f"no usable image is left ({len(offenders)} skipped); add images")
    for offender in offenders:
        log.info("skipped %s: %s", offender.file, offender.rule)
    return usable


def _write_shards(source: Source, settings: Settings, out: Path, recipe_hash: str, workers: int) -> list[WrittenShard]:
    """Write every shard, in order. recipe_hash: of what decides the bytes."""
    written: list[WrittenShard] = []
    with progress_bar() as bar:
        task = bar.add_task("writing", total=len(source.names))
        for shard in ordered_map(write_shard, _jobs(source, settings, out, recipe_hash), workers):
            written.append(shard)
            bar.advance(task, shard.shards[settings.levels[0]].samples)
    return written


def _jobs(source: Source, settings: Settings, out: Path, recipe_hash: str) -> Iterator[ShardJob]:
    columns = index.columns_of(source.factors, source.labels)
    count, step = len(source.names), settings.samples_per_shard
    for number, start in enumerate(range(0, count, step)):
        samples = source.part(start, min(start + step, count))
        yield ShardJob(out, number, start, samples, settings, columns, recipe_hash)


def _write_index(out: Path, level: int, written: Sequence[WrittenShard]) -> LevelInfo:
    """Write the index of a level; returns the level's part of the manifest."""
    digest = index.save(out / str(level), index.join([shard.tables[level] for shard in written]))
    shards = tuple(shard.shards[level] for shard in written)
    return LevelInfo(folder=str(level), index=index.FILE, index_sha256=digest, shards=shards)
