"""The commands of `python -m data_shards`."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import manifest, writer
from .adopt import adopt
from .check import check
from .cli import progress_bar
from .codec import Codec
from .errors import UserError, joined
from .manifest import Manifest
from .sources.base import Offender, Source
from .sources.dsprites_source import dsprites
from .sources.folder import folder as folder_source

log = logging.getLogger(__name__)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
maker = typer.Typer(help="Images -> tar shards.")
app.add_typer(maker, name="make")

Out = Annotated[Path, typer.Option(help="folder for the shards")]
Resolutions = Annotated[str, typer.Option(help="comma-separated powers of two, px")]
Workers = Annotated[int, typer.Option(min=1, help="processes")]
CodecName = Annotated[Literal["png", "webp", "jpeg"], typer.Option(help="png and webp are lossless")]
Quality = Annotated[int, typer.Option(min=1, max=100, help="of jpeg")]
PerShard = Annotated[int | None, typer.Option(min=1, help="samples per shard [default: about 128 MB]")]
_CORES = os.cpu_count() or 1


@maker.command("dsprites")
def make_dsprites(
    out: Out,
    count: Annotated[int | None, typer.Option(help="images: the same subset every time")] = None,
    every: Annotated[bool, typer.Option("--all", help="all 737,280 images")] = False,
    resolutions: Resolutions = "64",
    npz: Annotated[Path | None, typer.Option(help="read the published npz or hdf5 instead of drawing")] = None,
    workers: Workers = _CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """dSprites, drawn exactly (64 px) or anti-aliased (above)."""
    if every == (count is not None):
        raise UserError("give one of --count N and --all")
    levels = parse_resolutions(resolutions)
    source = dsprites(count, max(64, levels[0]), npz)
    if levels[0] < 64:
        raise UserError(f"--resolutions is {resolutions}: dSprites needs a level of 64 px or more; add 64")
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers)


@maker.command("folder")
def make_folder(
    src: Annotated[Path, typer.Argument(help="images, in sub-folders that name their classes")],
    out: Out,
    resolutions: Resolutions,
    on_bad: Annotated[Literal["error", "skip"], typer.Option(help="what to do about unusable images")] = "error",
    workers: Workers = _CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """Any images: centre crop to a square, Lanczos to the largest level, box means below."""
    levels = parse_resolutions(resolutions)
    source = folder_source(src, levels[0])
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers, on_bad)


def parse_resolutions(text: str) -> tuple[int, ...]:
    """ "64,256" -> (256, 64)."""
    values = [v.strip() for v in text.split(",")]
    bad = [v for v in values if not (v.isdigit() and 4 <= int(v) <= 4096 and int(v) & (int(v) - 1) == 0)]
    if bad:
        raise UserError(f"--resolutions is {text}: {', '.join(bad)} is not a power of two from 4 to 4096")
    return tuple(sorted({int(v) for v in values}, reverse=True))


def _settings(
    levels: tuple[int, ...],
    source: Source,
    codec: Literal["png", "webp", "jpeg"],
    quality: int,
    per_shard: int | None,
) -> writer.Settings:
    default = writer.default_samples_per_shard(levels[0], source.channels)
    stored = Codec(name=codec, quality=quality if codec == "jpeg" else None)
    return writer.Settings(levels, stored, per_shard or default)


def _make(
    source: Source,
    out: Path,
    settings: writer.Settings,
    workers: int,
    on_bad: Literal["error", "skip"] = "error",
) -> None:
    if writer.already_complete(out, writer.recipe_of(source, settings), source.listing_sha256):
        _report(out, manifest.load(out), "already complete")
        return
    offenders = _scan(source, workers)
    if offenders and on_bad == "error":
        lines = [f"{o.file}: {o.rule}; {o.remedy}" for o in offenders]
        raise joined("unusable images (mend them, or leave them out with --on-bad skip)", lines)
    usable = source.without(offenders)
    if not usable.names:
        raise UserError(f"no usable image is left ({len(offenders)} skipped); add images")
    for offender in offenders:
        log.info("skipped %s: %s", offender.file, offender.rule)
    with progress_bar() as bar:
        task = bar.add_task("writing", total=len(usable.names))
        made = writer.make(usable, settings, out, offenders, workers, lambda n: bar.advance(task, n))
    _report(out, made, "wrote")


def _scan(source: Source, workers: int) -> list[Offender]:
    with progress_bar() as bar:
        task = bar.add_task("scanning", total=len(source.names))
        found = []
        for answer in source.scan(workers):
            bar.advance(task)
            if answer is not None:
                found.append(answer)
    return found


def _report(out: Path, made: Manifest, what: str) -> None:
    levels = ", ".join(f"{r} px" for r in made.resolutions)
    shards = len(made.level(made.resolutions[0]).shards)
    skipped = f", {len(made.skipped)} skipped" if made.skipped else ""
    print(f"{what}: {out}: {made.count:,} images at {levels} in {shards} shards each{skipped}")
    for note in made.notes:
        print(f"note: {note}")


@app.command("index")
def index_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="tars of any webdataset tool")],
) -> None:
    """Write index and manifest for DIR/*.tar or DIR/<resolution>/*.tar, made anywhere."""
    with progress_bar() as bar:
        total = len(list(folder.glob("*.tar")) + list(folder.glob("[0-9]*/*.tar")))
        task = bar.add_task("indexing shards", total=total)
        made = adopt(folder, lambda n: bar.advance(task, n))
    _report(folder, made, "indexed")


@app.command("check")
def check_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a set")], workers: Workers = _CORES
) -> None:
    """Hash, count and decode everything, and compare the levels with each other."""
    found = manifest.load(folder)
    problems: list[str] = []
    with progress_bar() as bar:
        task = bar.add_task("checking shards", total=len(found.level(found.resolutions[0]).shards) + 1)
        for some in check(folder, workers):
            bar.advance(task)
            problems += some
    if problems:
        raise joined(str(folder), sorted(set(problems)))
    _report(folder, found, "sound")


@app.command("info")
def info(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a set")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """What a set holds."""
    found = manifest.load(folder)
    levels = {
        r: {"shards": len(found.level(r).shards), "bytes": sum(s.bytes for s in found.level(r).shards)}
        for r in found.resolutions
    }
    facts = {
        "data_set": found.data_set,
        "count": found.count,
        "channels": found.channels,
        "levels": levels,
        "factors": {f.name: f.size for f in found.factors},
        "labels": [label.name for label in found.labels],
        "codec": found.codec.name if found.codec else None,
        "skipped": len(found.skipped),
        "hash": found.hash,
    }
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        if name != "levels":
            print(f"{name:10} {value}")
    for r, level in levels.items():
        print(f"{r:5} px   {level['shards']} shards, {level['bytes'] / 1e6:,.1f} MB")
