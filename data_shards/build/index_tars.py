"""Index and manifest for tars that any webdataset tool wrote: DIR/*.tar, or DIR/<resolution>/*.tar."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from PIL import __version__ as pillow_version

from common.atomic_writes import publish
from common.errors import UserError
from data_shards.format import index, manifest
from data_shards.format.manifest import Factor, Label, LevelInfo, Manifest, Shard
from data_shards.format.tars import Entry, entries, read, sha256
from data_shards.sources.base import listing_hash

_CHANNELS = {"1": 1, "L": 1, "RGB": 3}


@dataclass
class _Tar:
    path: Path
    found: list[Entry]
    resolution: int
    channels: int


def index_tars(root: Path, advance: Callable[[int], None] = lambda shards: None) -> Manifest:
    """Read every tar below `root` and write index and manifest (replacing older ones)."""
    old = _old(root)
    levels: dict[int, list[_Tar]] = {}
    for folder, paths in _folders(root).items():
        tars: list[_Tar] = []
        for path in paths:
            tars.append(_open(path, tars[0] if tars else None))
            advance(1)
        if tars[0].resolution in levels:
            raise UserError(f"{folder}: holds {tars[0].resolution} px images, as another folder does; move one away")
        levels[tars[0].resolution] = tars
    _same_samples(levels)
    top = levels[max(levels)]
    factors, labels = _names(top, old)
    infos = {r: _level(root, tars, (factors, labels) if tars is top else ((), ())) for r, tars in levels.items()}
    listing = listing_hash(f"{s.name}\t{s.sha256}" for r in sorted(infos) for s in infos[r].shards)
    kept = old if old is not None and _unchanged(old, infos) else None
    made = Manifest(
        schema_version=manifest.SCHEMA_VERSION,
        data_set=old.data_set if old else "tars",
        recipe=kept.recipe if kept else {"source": "tars"},
        source_sha256=kept.source_sha256 if kept else listing,
        channels=kept.channels if kept else top[0].channels,  # a grey set in WebP looks like RGB
        count=sum(len(t.found) for t in top),
        codec=kept.codec if kept else None,
        levels=infos,
        factors=_sizes(root, infos[max(levels)], factors, old),
        labels=tuple(next((x for x in (old.labels if old else ()) if x.name == n), Label(name=n)) for n in labels),
        skipped=kept.skipped if kept else (),
        notes=kept.notes if kept else (),
        tools=kept.tools if kept else {"pillow": pillow_version},
    )
    publish(root / manifest.FILE, manifest.to_bytes(made))
    return manifest.load(root)


def _old(root: Path) -> Manifest | None:
    try:
        return manifest.load(root)
    except UserError:
        return None


def _unchanged(old: Manifest, infos: dict[int, LevelInfo]) -> bool:
    """The recipe still holds where every tar has the bytes that it had."""
    return old.levels.keys() == infos.keys() and all(old.levels[r].shards == infos[r].shards for r in infos)


def _folders(root: Path) -> dict[Path, list[Path]]:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name a folder of tars")
    if (root / ".parts").exists() and not (root / manifest.FILE).exists():
        raise UserError(f"{root}: holds an unfinished set; run the `make` command that began it again")
    candidates = [root, *sorted(p for p in root.iterdir() if p.is_dir() and p.name.isdigit())]
    folders = {folder: sorted(folder.glob("*.tar")) for folder in candidates}
    folders = {folder: paths for folder, paths in folders.items() if paths}
    if not folders:
        raise UserError(f"{root}: holds no *.tar and no <resolution>/*.tar; name a folder of tars")
    odd = [path for paths in folders.values() for path in paths if not manifest.is_name(path.name)]
    if odd:
        raise UserError(f"{odd[0]}: name tars with letters, digits, dots, - and _ alone, as manifests do")
    if root in folders and len(folders) > 1:
        raise UserError(f"{root}: holds tars beside folders of tars; move one kind away")
    return folders


def _open(path: Path, first: _Tar | None) -> _Tar:
    """Contents of a tar; every image square and like the first one."""
    found = entries(path)
    handle = os.open(path, os.O_RDONLY)
    try:
        for entry in found:
            seen = _look(path, entry, read(handle, entry.image))
            first = first or _Tar(path, found, *seen)
            if seen != (first.resolution, first.channels):
                raise UserError(
                    f"{path}: member {entry.image.name} is {seen[0]} px, {seen[1]} channels; the first of "
                    f"{first.path} is {first.resolution} px, {first.channels}; make a set with `make folder`"
                )
    finally:
        os.close(handle)
    assert first is not None
    return _Tar(path, found, first.resolution, first.channels)


def _look(path: Path, entry: Entry, data: bytes) -> tuple[int, int]:
    """Side and channels of an image, from its header."""
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path}: member {entry.image.name} is not a readable image ({error}); write the tar again"
        ) from None
    if image.format == "PNG" and data[24] == 16:  # IHDR's bit depth, which Pillow's mode does not tell
        raise UserError(f"{path}: member {entry.image.name} has 16 bits per channel; make a set with `make folder`")
    if image.width != image.height or image.mode not in _CHANNELS or getattr(image, "n_frames", 1) > 1:
        what = f"is {image.width}x{image.height} {image.mode}"
        raise UserError(
            f"{path}: member {entry.image.name} {what}, not square grey or RGB; make a set with `make folder`"
        )
    return image.width, _CHANNELS[image.mode]


def _same_samples(levels: dict[int, list[_Tar]]) -> None:
    top = levels[max(levels)]
    for tars in levels.values():
        if [[e.key for e in t.found] for t in tars] != [[e.key for e in t.found] for t in top]:
            raise UserError(
                f"{tars[0].path.parent}: its shards hold other samples than {top[0].path.parent}; "
                "every level needs the same keys in the same order"
            )
        if tars[0].channels != top[0].channels:
            raise UserError(f"{tars[0].path.parent}: {tars[0].channels} channels, {top[0].path.parent} has others")


def _names(top: list[_Tar], old: Manifest | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of factors and of labels: integers that every sample has. A set of ours tells them apart by
    itself."""
    common: set[str] | None = None
    factors: list[str] = []
    for tar in top:
        for values in index.member_values(tar.path, tar.found):
            names = values.keys() - {""}
            common = names if common is None else common & names
        factors = factors or _own_factors(tar)
    common = common or set()
    chosen = tuple(f.name for f in old.factors) if old else tuple(f for f in factors if f in common)
    before = {label.name: i for i, label in enumerate(old.labels)} if old else {}
    return chosen, tuple(sorted(common - set(chosen), key=lambda name: (before.get(name, len(before)), name)))


def _own_factors(tar: _Tar) -> list[str]:
    """The keys under "factors" in a json member, as our writer leaves them, in alphabetical order."""
    member = tar.found[0].others.get("json")
    if member is None:
        return []
    handle = os.open(tar.path, os.O_RDONLY)
    try:
        content: Any = json.loads(read(handle, member))
    finally:
        os.close(handle)
    found = content.get("factors", {}) if isinstance(content, dict) else {}
    return sorted(found) if isinstance(found, dict) else []


def _sizes(root: Path, info: LevelInfo, names: tuple[str, ...], old: Manifest | None) -> tuple[Factor, ...]:
    if old is not None or not names:
        return old.factors if old is not None else ()
    highest = index.load(root, info)["factors"].max(axis=0)
    return tuple(Factor(name=n, size=int(h) + 1) for n, h in zip(names, highest, strict=True))


def _level(root: Path, tars: list[_Tar], names: tuple[tuple[str, ...], tuple[str, ...]]) -> LevelInfo:
    folder = tars[0].path.parent
    table = index.join([index.tabulate(t.path, t.found, *names) for t in tars])
    shards = tuple(
        Shard(name=t.path.name, samples=len(t.found), bytes=t.path.stat().st_size, sha256=sha256(t.path)) for t in tars
    )
    return LevelInfo(
        folder="." if folder == root else folder.name,
        index=index.FILE,
        index_sha256=index.save(folder, table),
        shards=shards,
    )
