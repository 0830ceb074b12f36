"""Write index and manifest for tars that another tool wrote, or write them again for a set whose tars have changed.

A folder without a readable manifest is described from its tars alone. Where there is one, it decides which integers are
factors, and what it says of the images (recipe, codec, notes) is kept as long as no tar has changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import __version__ as pillow_version

from common.atomic_writes import publish
from common.errors import UserError
from data_shards.format import index, manifest
from data_shards.format.manifest import Factor, Label, LevelInfo, Manifest, Shard
from data_shards.format.tars import read, sha256
from data_shards.sources.base import listing_hash

from .foreign_tars import ForeignTar, open_levels

_OF_THE_IMAGES = ("recipe", "source_sha256", "channels", "codec", "skipped", "notes", "tools")


class _Level(NamedTuple):
    """What was read of a level: its folder, its index, and its tars as the manifest lists them."""

    folder: Path
    table: index.Table
    shards: tuple[Shard, ...]


def index_tars(root: Path, advance: Callable[[int], None] = lambda tars: None) -> Manifest:
    """Read every tar below `root` (DIR/*.tar, or DIR/<resolution>/*.tar); write and return index and manifest.

    advance(1) is called after each tar. Raises UserError where something cannot be used; older files then stay.
    """
    old = _readable_manifest(root)
    levels = open_levels(root, advance)
    top = levels[max(levels)]
    columns = _columns_from_tars(top) if old is None else _columns_as_before(top, old)
    contents = {r: _read_level(tars, columns if tars is top else index.Columns()) for r, tars in levels.items()}
    # Nothing was written so far, and from here on no tar can be refused.
    infos = {r: _write_index(root, level, _recorded_hash(old, r)) for r, level in contents.items()}
    made = _describe(top, infos, contents[max(contents)].table, columns)
    if old is not None:
        made = _keep_from(old, made)
    publish(root / manifest.FILE, manifest.to_bytes(made))
    return manifest.load(root)


def _readable_manifest(root: Path) -> Manifest | None:
    try:
        return manifest.load(root)
    except UserError:
        return None


def _columns_from_tars(top: list[ForeignTar]) -> index.Columns:
    """Integers that every sample has: those under "factors" in the json of a set of ours are factors, others labels."""
    common = _common_integers(top)
    tables = (_names_under_factors(tar) for tar in top)
    factors = tuple(name for name in next(filter(None, tables), []) if name in common)
    return index.Columns(factors, tuple(sorted(common - set(factors))))


def _columns_as_before(top: list[ForeignTar], old: Manifest) -> index.Columns:
    """The factors of the older manifest; every other common integer is a label, in the older order, new ones last."""
    columns = index.columns_of(old.factors, old.labels)
    position = {label.name: i for i, label in enumerate(old.labels)}
    common = _common_integers(top) - set(columns.factors)
    labels = sorted(common, key=lambda name: (position.get(name, len(position)), name))
    return columns._replace(labels=tuple(labels))


def _common_integers(top: list[ForeignTar]) -> set[str]:
    """Names of the integers that every sample has."""
    common: set[str] | None = None
    for tar in top:
        for sample in index.member_values(tar.path, tar.entries):
            common = set(sample.integers) if common is None else common & set(sample.integers)
    return common or set()


def _names_under_factors(tar: ForeignTar) -> list[str]:
    """The keys under "factors" in the first json member, as our writer leaves them, in alphabetical order."""
    member = tar.entries[0].others.get("json")
    if member is None:
        return []
    handle = os.open(tar.path, os.O_RDONLY)
    try:
        content: Any = json.loads(read(handle, member))
    finally:
        os.close(handle)
    factors = content.get("factors", {}) if isinstance(content, dict) else {}
    return sorted(factors) if isinstance(factors, dict) else []


def _read_level(tars: Sequence[ForeignTar], columns: index.Columns) -> _Level:
    """Read and hash the tars of a level. Raises UserError where a sample lacks a column."""
    table = index.join([index.tabulate(tar.path, tar.entries, columns) for tar in tars])
    shards = tuple(
        Shard(
            name=tar.path.name,
            samples=len(tar.entries),
            bytes=tar.path.stat().st_size,
            sha256=sha256(tar.path),
        )
        for tar in tars
    )
    return _Level(tars[0].path.parent, table, shards)


def _recorded_hash(old: Manifest | None, resolution: int) -> str | None:
    """The hash of a level's index in the older manifest, if it has the level."""
    return old.levels[resolution].index_sha256 if old is not None and resolution in old.levels else None


def _write_index(root: Path, level: _Level, recorded: str | None) -> LevelInfo:
    """Write the index of a level; returns the level's part of the manifest. recorded: see `index.save`."""
    return LevelInfo(
        folder="." if level.folder == root else level.folder.name,
        index=index.FILE,
        index_sha256=index.save(level.folder, level.table, recorded),
        shards=level.shards,
    )


def _describe(
    top: list[ForeignTar], infos: dict[int, LevelInfo], top_table: index.Table, columns: index.Columns
) -> Manifest:
    """The manifest of tars about which nothing but their contents is known. top_table: index of the largest level."""
    return Manifest(
        schema_version=manifest.SCHEMA_VERSION,
        data_set="tars",
        recipe={"source": "tars"},
        source_sha256=listing_hash(f"{s.name}\t{s.sha256}" for r in sorted(infos) for s in infos[r].shards),
        channels=top[0].channels,
        count=sum(len(tar.entries) for tar in top),
        codec=None,
        levels=infos,
        factors=_factors(top_table, columns.factors),
        labels=tuple(Label(name=name) for name in columns.labels),
        tools={"pillow": pillow_version},
    )


def _factors(table: index.Table, names: tuple[str, ...]) -> tuple[Factor, ...]:
    """Factors whose highest class in the index is their last one."""
    if not names:
        return ()
    highest = table["factors"].max(axis=0)
    return tuple(Factor(name=name, size=int(h) + 1) for name, h in zip(names, highest, strict=True))


def _keep_from(old: Manifest, new: Manifest) -> Manifest:
    """Take over what the older manifest said and the tars cannot say.

    That is the data set's name, the sizes of factors and the classes of labels; and where every tar has the bytes that
    it had, all about the images. (A grey set in WebP looks like RGB: the older number of channels is right.)
    """
    labels = {label.name: label for label in old.labels}
    kept: dict[str, Any] = {
        "data_set": old.data_set,
        "factors": old.factors,
        "labels": tuple(labels.get(label.name, label) for label in new.labels),
    }
    same_levels = old.levels.keys() == new.levels.keys()
    if same_levels and all(old.levels[r].shards == new.levels[r].shards for r in new.levels):
        kept |= {name: getattr(old, name) for name in _OF_THE_IMAGES}
    return new.model_copy(update=kept)
