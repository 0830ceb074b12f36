"""`python -m data_shards make DATA_SET`: the options of one command for each kind of source.

Sources and writer are imported when a command runs: they bring torch, and help should come at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from common import cli
from common.errors import UserError
from data_shards.format import manifest
from data_shards.format.manifest import CODE_RESOLUTION, Codec, ImageFormat, Manifest

if TYPE_CHECKING:
    from data_shards.sources.base import Source

    from .recipe import Settings

maker = typer.Typer(help="Images -> tar shards.")

Out = Annotated[Path, typer.Option(help="folder for the shards", parser=cli.path)]
Resolutions = Annotated[str, typer.Option(help="levels to store: comma-separated powers of two, px")]
Workers = Annotated[int, typer.Option(min=1, help="worker processes", show_default="the cores of the job")]
CodecName = Annotated[ImageFormat, typer.Option(help="format of the stored images; png and webp are lossless")]
Quality = Annotated[int, typer.Option(min=1, max=100, help="quality of jpeg")]
PerShard = Annotated[int | None, typer.Option(min=1, help="samples of a shard [default: about 128 MB]")]
Labels = Annotated[Path | None, typer.Option(help="folder of CelebA's label files", parser=cli.path)]
OnBad = Annotated[
    Literal["error", "skip"], typer.Option(help="what to do about images that cannot be used: stop, or leave them out")
]
Crop = Annotated[
    Literal["paper", "square", "centre-148", "centre-108", "pggan"],
    typer.Option(help="square to crop: centre 160 (paper), 178, 148 or 108 px; pggan: 128 px around (89, 121)"),
]
Count = Annotated[int | None, typer.Option(help="number of images to take; the same ones every time")]
CORES = len(os.sched_getaffinity(0))  # of the job, where a scheduler gave it some of the machine's


@maker.command("dsprites")
def make_dsprites(
    out: Out,
    count: Count = None,
    every: Annotated[bool, typer.Option("--all", help="take all 737,280 images")] = False,
    resolutions: Resolutions = "64",
    npz: Annotated[
        Path | None, typer.Option(help="read the published npz or hdf5 instead of drawing", parser=cli.path)
    ] = None,
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """Draw dSprites: exactly at 64 px, anti-aliased above."""
    from data_shards.sources.sprites.dsprites import dsprites

    if every == (count is not None):
        raise UserError("give one of --count N and --all")
    levels = parse_resolutions(resolutions)
    source = dsprites(count, max(64, levels[0]), npz)
    if levels[0] < 64:
        raise UserError(f"--resolutions is {resolutions}: dSprites needs a level of 64 px or more; add 64")
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers)


@maker.command("stacked")
def make_stacked(
    out: Out,
    count: Annotated[int, typer.Option(help="number of images; the first ones are the same in every set")] = 50_000,
    resolutions: Resolutions = "64",
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """Draw stacked sprites: a sprite of ten classes in each colour channel, 1,000 modes to count."""
    from data_shards.sources.sprites.stacked import stacked

    levels = parse_resolutions(resolutions)
    source = stacked(count, max(64, levels[0]))
    if levels[0] < 64:
        raise UserError(f"--resolutions is {resolutions}: stacked sprites need a level of 64 px or more; add 64")
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers)


@maker.command("faces")
def make_faces(
    out: Out,
    count: Annotated[int, typer.Option(help="number of faces; the first ones are the same in every set")] = 30_000,
    first: Annotated[int, typer.Option(min=0, help="number of the first face: another set begins after this one")] = 0,
    resolutions: Resolutions = "64",
    style: Annotated[str, typer.Option(help="the style of DiceBear's that they are drawn in")] = "toon-head",
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: Annotated[
        int | None, typer.Option(min=1, help="samples of a shard [default: about 128 MB, at most 512]")
    ] = None,
) -> None:
    """Draw faces with known factors: parts, colours and the pose of the head."""
    from data_shards.sources.faces.faces import PER_SHARD, faces

    levels = parse_resolutions(resolutions)
    source = faces(count, levels[0], style, first)
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard, PER_SHARD), workers)


@maker.command("folder")
def make_folder(
    src: Annotated[
        Path,
        typer.Argument(
            help="images in a folder, zip, tar or tars, parquet; sub-folders or label files name classes",
            parser=cli.path,
        ),
    ],
    out: Out,
    resolutions: Resolutions,
    image: Annotated[
        str | None,
        typer.Option(help="column (parquet) or extension (tars) of the images, of several [default: by name]"),
    ] = None,
    enlarge: Annotated[
        bool, typer.Option("--enlarge", help="store images below the largest level enlarged, in place of refusing them")
    ] = False,
    on_bad: OnBad = "error",
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """Store any images: centre crop to a square, Lanczos to the largest level, box means below."""
    from data_shards.sources.photos.image_folder import folder

    levels = parse_resolutions(resolutions)
    source = folder(src, levels[0], image, enlarge)
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers, on_bad)


@maker.command("celeba")
def make_celeba(
    src: Annotated[
        Path, typer.Argument(help="img_align_celeba, its zip, or the folder that holds either", parser=cli.path)
    ],
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
    """Store CelebA: one crop, Lanczos to the largest level (the paper's 256 px is an upscale of 160)."""
    from data_shards.sources.photos.celeba import celeba

    levels = parse_resolutions(resolutions)
    source = celeba(src, levels[0], crop, labels)
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers, on_bad)


@maker.command("celeba_hq")
def make_celeba_hq(
    src: Annotated[
        Path, typer.Argument(help="folder, zip, CelebAMask-HQ, PGGAN's TFRecords or parquet", parser=cli.path)
    ],
    out: Out,
    resolutions: Resolutions,
    image_list: Annotated[
        Path | None, typer.Option(help="image_list.txt, whose hashes the pixels are compared with", parser=cli.path)
    ] = None,
    labels: Labels = None,
    on_bad: OnBad = "error",
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """Store CelebA-HQ as it is; a largest level under 1024 px takes exact box means."""
    from data_shards.sources.photos.celeba_hq import celeba_hq

    levels = parse_resolutions(resolutions)
    source = celeba_hq(src, levels[0], image_list, labels)
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers, on_bad)


@maker.command("chairs")
def make_chairs(
    src: Annotated[Path, typer.Argument(help="rendered_chairs, or a zip of it", parser=cli.path)],
    out: Out,
    resolutions: Resolutions = "64",
    on_bad: OnBad = "error",
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """Store 3D Chairs: centre crop 450, Lanczos to the largest level."""
    from data_shards.sources.photos.chairs import chairs

    levels = parse_resolutions(resolutions)
    source = chairs(src, levels[0])
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers, on_bad)


@maker.command("cars")
def make_cars(
    src: Annotated[
        Path, typer.Argument(help="cars_train and cars_test, or flat copies, with the devkit", parser=cli.path)
    ],
    out: Out,
    resolutions: Resolutions = "64",
    on_bad: OnBad = "error",
    workers: Workers = CORES,
    codec: CodecName = "png",
    quality: Quality = 95,
    samples_per_shard: PerShard = None,
) -> None:
    """Store Stanford Cars: what is in the bounding boxes, by Lanczos to a square whatever its shape."""
    from data_shards.sources.photos.cars import cars

    levels = parse_resolutions(resolutions)
    source = cars(src, levels[0])
    _make(source, out, _settings(levels, source, codec, quality, samples_per_shard), workers, on_bad)


def _grid_command(name: str, help_text: str) -> None:
    """Add `make NAME FILE` for a published set with known factors."""

    @maker.command(name, help=help_text)
    def make_grid(
        src: Annotated[Path, typer.Argument(help="the published file", parser=cli.path)],
        out: Out,
        count: Count = None,
        workers: Workers = CORES,
        codec: CodecName = "png",
        quality: Quality = 95,
        samples_per_shard: PerShard = None,
    ) -> None:
        from data_shards.sources.factor_grids import PUBLISHED, grid

        source = grid(src, PUBLISHED[name], count)
        _make(source, out, _settings((64,), source, codec, quality, samples_per_shard), workers)


_grid_command("shapes3d", "Store 3D Shapes (3dshapes.h5), 480,000 images of 64 px with six known factors.")
_grid_command(
    "mpi3d",
    "Store MPI3D (mpi3d_toy.npz and its family), 1,036,800 (complex: 460,800) images of 64 px with seven factors.",
)
_grid_command("cars3d", "Store Cars3D (cars3d.npz), 17,568 images of 64 px with three known factors.")


def parse_resolutions(text: str) -> tuple[int, ...]:
    """Read --resolutions: "64,256" -> (256, 64). Raises UserError where one is no power of two from 4 to 4096."""
    values = [v.strip() for v in text.split(",")]
    bad = [v for v in values if not (v.isdecimal() and 4 <= int(v) <= 4096 and int(v) & (int(v) - 1) == 0)]
    if bad:
        raise UserError(f"--resolutions is {text}: {', '.join(bad)} is not a power of two from 4 to 4096")
    return tuple(sorted({int(v) for v in values}, reverse=True))


def _settings(
    levels: tuple[int, ...],
    source: Source,
    codec: ImageFormat,
    quality: int,
    per_shard: int | None,
    at_most: int = 4096,
) -> Settings:
    """The options of a command as settings of the set.

    quality: counts for jpeg alone; at_most: samples of a shard where the user chose no number.
    """
    from .recipe import Settings, default_samples_per_shard

    stored = Codec(name=codec, quality=quality if codec == "jpeg" else None)
    default = default_samples_per_shard(levels[0], source.channels, at_most)
    return Settings(levels, stored, per_shard or default)


def _make(source: Source, out: Path, settings: Settings, workers: int, on_bad: OnBad = "error") -> None:
    """Make the set, unless the folder holds it already, and print what it holds."""
    from .make_set import make_set
    from .output_folder import already_complete
    from .recipe import recipe_of

    if already_complete(out, recipe_of(source, settings), source):
        print_summary(out, manifest.load(out), "already complete")
    else:
        print_summary(out, make_set(source, settings, out, workers, skip_offenders=on_bad == "skip"), "wrote")


def print_summary(out: Path, made: Manifest, what: str) -> None:
    """Print what a set holds: a line, and one for each note. what: was done, "wrote" for example."""
    levels = ", ".join(f"{r} px" for r in made.resolutions)
    shards = len(made.level(made.resolutions[0]).shards)
    skipped = f", {len(made.skipped)} skipped" if made.skipped else ""
    print(f"{what}: {out}: {made.count:,} images at {levels} in {shards} shards each{skipped}")
    for note in made.notes:
        print(f"note: {note}")
    if CODE_RESOLUTION not in made.resolutions:
        remedy = manifest.how_to_add(made, out, [CODE_RESOLUTION])
        print(f"note: training needs a level of {CODE_RESOLUTION} px, where the code is defined; {remedy}")
