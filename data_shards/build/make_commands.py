"""`python -m data_shards make DATA_SET`: one command for each kind of source."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from common.errors import UserError, joined
from common.progress import progress_bar
from data_shards.format import manifest
from data_shards.format.manifest import Codec, Manifest
from data_shards.sources.base import Offender, Source
from data_shards.sources.factor_grids import CARS3D, MPI3D, SHAPES3D, Published, grid
from data_shards.sources.photos.cars import cars
from data_shards.sources.photos.celeba import celeba
from data_shards.sources.photos.celeba_hq import celeba_hq
from data_shards.sources.photos.chairs import chairs
from data_shards.sources.photos.image_folder import folder
from data_shards.sources.sprites.dsprites import dsprites

from . import shard_writer

log = logging.getLogger(__name__)
maker = typer.Typer(help="Images -> tar shards.")

Out = Annotated[Path, typer.Option(help="folder for the shards")]
Resolutions = Annotated[str, typer.Option(help="comma-separated powers of two, px")]
Workers = Annotated[int, typer.Option(min=1, help="processes", show_default="the cores of the job")]
CodecName = Annotated[Literal["png", "webp", "jpeg"], typer.Option(help="png and webp are lossless")]
Quality = Annotated[int, typer.Option(min=1, max=100, help="of jpeg")]
PerShard = Annotated[int | None, typer.Option(min=1, help="samples per shard [default: about 128 MB]")]
Labels = Annotated[Path | None, typer.Option(help="folder of CelebA's label files")]
OnBad = Annotated[Literal["error", "skip"], typer.Option(help="what to do about unusable images")]
Crop = Annotated[
    Literal["paper", "square", "centre-148", "centre-108", "pggan"],
    typer.Option(help="centre 160, 178, 148 or 108 px; pggan: 128 px around (89, 121)"),
]
Count = Annotated[int | None, typer.Option(help="images: the same subset every time")]
CORES = len(os.sched_getaffinity(0))  # of the job, where a scheduler gave it some of the machine's


@maker.command("dsprites")
def make_dsprites(
    out: Out,
    count: Count = None,
    every: Annotated[bool, typer.Option("--all", help="all 737,280 images")] = False,
    resolutions: Resolutions = "64",
    npz: Annotated[Path | None, typer.Option(help="read the published npz or hdf5 instead of drawing")] = None,
    workers: Workers = CORES,
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
    src: Annotated[Path, typer.Argument(help="folder or zip of images, in sub-folders that name their classes")],
    out: Out,
    resolutions: Resolutions,
    on_bad: OnBad = "error",
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """Any images: centre crop to a square, Lanczos to the largest level, box means below."""
    levels = parse_resolutions(resolutions)
    source = folder(src, levels[0])
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers, on_bad)


@maker.command("celeba")
def make_celeba(
    src: Annotated[Path, typer.Argument(help="img_align_celeba, its zip, or the folder that holds either")],
    out: Out,
    resolutions: Resolutions,
    crop: Crop = "paper",
    labels: Labels = None,
    on_bad: OnBad = "error",
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """CelebA: one crop, Lanczos to the largest level (the paper's 256 px is an upscale of 160)."""
    levels = parse_resolutions(resolutions)
    source = celeba(src, levels[0], crop, labels)
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers, on_bad)


@maker.command("celeba_hq")
def make_celeba_hq(
    src: Annotated[Path, typer.Argument(help="folder, zip, PGGAN's TFRecords or parquet")],
    out: Out,
    resolutions: Resolutions,
    image_list: Annotated[Path | None, typer.Option(help="image_list.txt, to verify the pixels with")] = None,
    labels: Labels = None,
    on_bad: OnBad = "error",
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """CelebA-HQ as it is; a largest level under 1024 px takes exact box means."""
    levels = parse_resolutions(resolutions)
    source = celeba_hq(src, levels[0], image_list, labels)
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers, on_bad)


@maker.command("chairs")
def make_chairs(
    src: Annotated[Path, typer.Argument(help="rendered_chairs, or a zip of it")],
    out: Out,
    resolutions: Resolutions = "64",
    on_bad: OnBad = "error",
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """3D Chairs: centre crop 450, Lanczos to the largest level."""
    levels = parse_resolutions(resolutions)
    source = chairs(src, levels[0])
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers, on_bad)


@maker.command("cars")
def make_cars(
    src: Annotated[Path, typer.Argument(help="cars_train and cars_test, or flat copies, with the devkit")],
    out: Out,
    resolutions: Resolutions = "64",
    on_bad: OnBad = "error",
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """Stanford Cars: bounding boxes, Lanczos to a square regardless of aspect."""
    levels = parse_resolutions(resolutions)
    source = cars(src, levels[0])
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers, on_bad)


def _grid_command(published: Published, words: str) -> None:
    """`make NAME FILE` for a published set with known factors."""

    @maker.command(published.name, help=words)
    def make_grid(
        src: Annotated[Path, typer.Argument(help="the published file")],
        out: Out,
        count: Count = None,
        workers: Workers = CORES,
        codec: CodecName = "png",
        quality: Quality = 95,
        samples_per_shard: PerShard = None,
    ) -> None:
        source = grid(src, published, count)
        _make(source, out, _settings((64,), source, codec, quality, samples_per_shard), workers)


_grid_command(SHAPES3D, "3D Shapes (3dshapes.h5), 480,000 images of 64 px with six known factors.")
_grid_command(
    MPI3D,
    "MPI3D (mpi3d_toy.npz and its family), 1,036,800 (complex: 460,800) images of 64 px with seven known factors.",
)
_grid_command(CARS3D, "Cars3D (cars3d.npz), 17,568 images of 64 px with three known factors.")


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
) -> shard_writer.Settings:
    default = shard_writer.default_samples_per_shard(levels[0], source.channels)
    stored = Codec(name=codec, quality=quality if codec == "jpeg" else None)
    return shard_writer.Settings(levels, stored, per_shard or default)


def _make(
    source: Source,
    out: Path,
    settings: shard_writer.Settings,
    workers: int,
    on_bad: Literal["error", "skip"] = "error",
) -> None:
    if shard_writer.already_complete(out, shard_writer.recipe_of(source, settings), source.listing_sha256):
        report(out, manifest.load(out), "already complete")
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
        made = shard_writer.make(usable, settings, out, offenders, workers, lambda n: bar.advance(task, n))
    report(out, made, "wrote")


def _scan(source: Source, workers: int) -> list[Offender]:
    with progress_bar() as bar:
        task = bar.add_task("scanning", total=len(source.names))
        found = []
        for answer in source.scan(workers):
            bar.advance(task)
            if answer is not None:
                found.append(answer)
    return found


def report(out: Path, made: Manifest, what: str) -> None:
    levels = ", ".join(f"{r} px" for r in made.resolutions)
    shards = len(made.level(made.resolutions[0]).shards)
    skipped = f", {len(made.skipped)} skipped" if made.skipped else ""
    print(f"{what}: {out}: {made.count:,} images at {levels} in {shards} shards each{skipped}")
    for note in made.notes:
        print(f"note: {note}")
