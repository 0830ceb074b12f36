"""Write index and manifest for tars that another tool wrote, or write them again for a set whose tars have changed.

A folder without a readable manifest is described from its tars alone. Where there is one, it decides which integers are
factors, and what it says of the images (recipe, codec, notes) is kept as long as no tar has changed.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import __version__ as pillow_version

from common.atomic_writes import publish
from common.errors import UserError
from data_shards.format import index, manifest
from data_shards.format.label_columns import LabelColumns, Numbering
from data_shards.format.left_out import REST, LeftOut
from data_shards.format.manifest import Factor, Label, LevelInfo, Manifest, Shard
from data_shards.format.tars import read, typed_extension
from data_shards.sources.base import listing_hash
from data_shards.sources.containers.folder_and_zip import FolderStore

from .foreign_tars import ForeignTar, open_levels

_OF_THE_IMAGES = ("recipe", "source_sha256", "channels", "codec", "skipped", "notes", "tools")


class _Level(NamedTuple):
    """What was read of a level: its folder, its index, and its tars as the manifest lists them."""

    folder: Path
    table: index.Table
    shards: tuple[Shard, ...]


class _Columns(NamedTuple):
    """What the index of the largest level holds: names of columns, the labels, and notes on what is left out."""

    names: index.Columns
    labels: tuple[Label, ...]
    notes: tuple[str, ...]


def index_tars(
    root: Path,
    advance: Callable[[int], None] = lambda tars: None,
    workers: int = 1,
    image: str | None = None,
) -> Manifest:
    """Read every tar below `root` (DIR/*.tar, or DIR/<resolution>/*.tar); write and return index and manifest.

    advance(1) is called after each tar. image: the extension of the images, where samples have several; what an older
    manifest says, where it is None. Raises UserError where something cannot be used; older files then stay.
    """
    old = _readable_manifest(root)
    image = typed_extension(image) if image else (old.recipe.get("image") if old is not None else None)
    levels = open_levels(root, advance, workers, image)
    top = levels[max(levels)]
    columns = _columns(top, old)
    notes = (*columns.notes, *_notes_on_files(root, levels))
    contents = {r: _read_level(tars, columns if tars is top else None) for r, tars in levels.items()}
    # Nothing was written so far, and from here on no tar can be refused.
    infos = {r: _write_index(root, level, _recorded_hash(old, r)) for r, level in contents.items()}
    made = _describe(top, infos, contents[max(contents)].table, columns._replace(notes=notes), image)
    if old is not None:
        made = _keep_from(old, made)
    publish(root / manifest.FILE, manifest.to_bytes(made))
    return manifest.load(root)


def _readable_manifest(root: Path) -> Manifest | None:
    try:
        return manifest.load(root)
    except UserError:
        return None


def _columns(top: list[ForeignTar], old: Manifest | None) -> _Columns:
    """The columns of the largest level's index.

    What is in every sample is a factor where an older manifest says so, or stands under "factors" in the json of a set
    of ours. Other integers and classes are labels: those of the older manifest alone where no tar has changed, else
    these first.
    """
    survey = LabelColumns()
    for tar in top:
        for sample in index.member_values(tar.path, tar.entries):
            survey.add(sample.labels)
    older = {label.name: label for label in old.labels} if old is not None else {}
    labels = survey.labels(older)
    factors = index.columns_of(old.factors, ()) if old is not None else index.Columns(_factor_names(top, labels))
    unchanged = old is not None and [tar.shard for tar in top] == list(old.level(old.resolutions[0]).shards)
    position = {name: i for i, name in enumerate(older)}
    chosen = sorted(
        (x for x in labels if x.name not in factors.factors and (x.name in older or not unchanged)),
        key=lambda label: (position.get(label.name, len(position)), label.name),
    )
    return _Columns(
        factors._replace(labels=tuple(label.name for label in chosen)),
        tuple(chosen),
        (*survey.notes(), *_notes_on_members(top)),
    )


def _factor_names(top: list[ForeignTar], labels: Sequence[Label]) -> tuple[str, ...]:
    """The names under "factors" in the json of a set of ours, as far as they are integers of every sample."""
    integers = {label.name for label in labels if label.classes is None}
    tables = (_names_under_factors(tar) for tar in top)
    return tuple(name for name in next(filter(None, tables), []) if name in integers)


def _notes_on_members(top: list[ForeignTar]) -> tuple[str, ...]:
    """Notes on members that are neither images nor labels."""
    known = {"json", *index.LABEL_MEMBERS}
    others = Counter(name for tar in top for entry in tar.entries for name in entry.others if name not in known)
    beside = ", ".join(f"{name} {count:,}" for name, count in sorted(others.items()))
    files = LeftOut(tuple(file for tar in top for file in tar.left_out.files))
    return (
        *([f"left out, members beside the images: {beside}"] if beside else []),
        *files.notes("without a key or an extension"),
    )


def _notes_on_files(root: Path, levels: dict[int, list[ForeignTar]]) -> tuple[str, ...]:
    """Notes on the files below the folder that are neither tars of a level nor written by us."""
    ours = {manifest.FILE, index.FILE}
    taken = {tar.path.relative_to(root).as_posix() for tars in levels.values() for tar in tars}
    store = FolderStore(root)
    try:
        beside = store.left_out().without(taken | ours)
        images = tuple((photo.path, REST) for photo in store.photos())
    except UserError as error:  # about a folder that has no tars of the set
        return (f"files beside the tars are not counted: {error}",)
    return LeftOut((*images, *beside.files)).notes("beside the tars")


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


def _read_level(tars: Sequence[ForeignTar], columns: _Columns | None) -> _Level:
    """Read the tars of a level. columns: of the largest one. Raises UserError where a sample lacks a column."""
    names, labels = (columns.names, columns.labels) if columns is not None else (index.Columns(), ())
    numbering = Numbering(labels)
    table = index.join([index.tabulate(tar.path, tar.entries, names, numbering) for tar in tars])
    return _Level(tars[0].path.parent, table, tuple(tar.shard for tar in tars))


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
    top: list[ForeignTar],
    infos: dict[int, LevelInfo],
    top_table: index.Table,
    columns: _Columns,
    image: str | None,
) -> Manifest:
    """The manifest of tars about which nothing but their contents is known.

    top_table: index of the largest level; image: the extension of the images, where it was chosen.
    """
    return Manifest(
        schema_version=manifest.SCHEMA_VERSION,
        data_set="tars",
        recipe={"source": "tars"} | ({"image": image} if image else {}),
        source_sha256=listing_hash(f"{s.name}\t{s.sha256}" for r in sorted(infos) for s in infos[r].shards),
        channels=top[0].channels,
        count=sum(len(tar.entries) for tar in top),
        codec=None,
        levels=infos,
        factors=_factors(top_table, columns.names.factors),
        labels=columns.labels,
        notes=columns.notes,
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
        "labels": tuple(label if label.classes else labels.get(label.name, label) for label in new.labels),
    }
    same_levels = old.levels.keys() == new.levels.keys()
    if same_levels and all(old.levels[r].shards == new.levels[r].shards for r in new.levels):
        kept |= {name: getattr(old, name) for name in _OF_THE_IMAGES}
    return new.model_copy(update=kept)
