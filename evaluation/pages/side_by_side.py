"""OUT/index.html: a generator that was just trained beside the shipped one of its kind: pictures, numbers, settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from markupsafe import Markup

from common.errors import UserError
from data_shards.format.pyramid import at_most
from evaluation import measure
from evaluation.inputs.choices import Kind
from evaluation.inputs.images import code_source, maker
from evaluation.inputs.run import Run
from trainer.jobs.exit_file import read_command
from trainer.pictures.image_grids import grid
from trainer.reporting.cost import spent
from trainer.reporting.stats_file import read_stats

from . import comparison, figures
from .comparison import ComparisonPlan
from .page import figures as captioned
from .page import folded, heading, preformatted, publish_page, saved, section, table, wide

SAMPLES, ACROSS, LARGEST = 48, 8, 128  # images in a grid; px of an image in it
TIMES_BELOW_UNTRAINED, FAITHFUL = 10, 0.6  # what a training of some minutes reaches
FID = "FID: distance from real images, lower is better"
SPRITES = "faithful sprites: share of images that are one dSprites shape, drawn cleanly"
TARGETS = "What a training of some minutes should reach"
WALK = (
    "One latent at a time from -3 to 3, those that carry most first; the VAE's decoding above, the generator's image "
    "below."
)


@dataclass(frozen=True)
class Column:
    """A run or an export with its numbers. title: for a reader; fid, aligned: numbers by kind of images."""

    title: str
    run: Run
    fid: dict[str, Any]
    aligned: dict[str, Any]


class Written(NamedTuple):
    """The page, and its tables: (title, head, rows)."""

    page: Path
    tables: list[tuple[str, list[str], list[list[str]]]]


def write(runs: Sequence[Run], plan: ComparisonPlan, out: Path) -> Written:
    """Measure a run, and the shipped export of its kind where there is one, alike, and write their page to `out`.

    Raises a UserError where one of them is no generator on the code of a VAE.
    """
    for run in runs:
        if run.generator is None or run.vae is None:
            raise UserError(f"{run.path}: is no generator on the code of a VAE; name an ID-GAN, or use `compare`")
    trained = runs[0]
    columns = [_column(trained, _here(trained), plan, ("reals", "vae", "gan", "untrained"))]
    columns += [_column(run, _shipped(run), plan, ("vae", "gan")) for run in runs[1:]]
    numbers, targets = _numbers(columns), _targets(columns[0])
    parts = [
        heading("Trained here, and shipped", _about(trained)),
        section("Images", captioned("pair", _samples(columns, plan.seed, out)), "Each of the code of a real image."),
        *(section(f"What each latent moves: {c.title}", wide(_traversals(c, plan.seed, out)), WALK) for c in columns),
        section("Measured", table(*numbers), _protocol(trained, plan)),
        section(TARGETS, table(*targets)),
        section("Settings", Markup().join(folded(c.title, _config(c.run)) for c in columns)),
        section("Commands", preformatted("\n".join(filter(None, (read_command(c.run.path) for c in columns[:1]))))),
    ]
    page = publish_page(out / "index.html", "Trained here, and shipped", parts)
    return Written(page, [("Measured", *numbers), (TARGETS, *targets)])


def _column(run: Run, title: str, plan: ComparisonPlan, kinds: tuple[Kind, ...]) -> Column:
    fid = comparison.fid_of(run, plan, kinds, plan.samples)["kinds"]
    alignment = comparison.alignment_of(run, plan)
    assert alignment is not None
    return Column(title, run, fid, alignment["kinds"])


def _here(run: Run) -> str:
    seconds = spent(read_stats(run.path), int(run.manifest["world_size"])).seconds
    return f"after {seconds / 60:.0f} minutes here" if seconds >= 60 else f"after {seconds:.0f} seconds here"


def _shipped(run: Run) -> str:
    hours = run.manifest.get("hours")
    return "shipped" if hours is None else f"shipped, after {hours:.1f} hours"


def _about(run: Run) -> str:
    data = run.data.main.manifest
    return (
        f"{run.config.system} on {data.data_set}, {data.count:,} images; {run.images_seen:,} images seen here in "
        f"{int(run.manifest['iteration']):,} iterations of {run.config.batch_size}."
    )


def _samples(columns: Sequence[Column], seed: int, out: Path) -> list[tuple[Markup, str]]:
    first, at = columns[0].run, torch.arange(SAMPLES)
    shown = [("Real images", first.reals.at(seed, at, first.resolution))]
    shown.append(("Decodings of its VAE", maker(first, "vae", seed, "posterior", 0)(at)))
    for column in columns:
        shown.append((column.title.capitalize(), maker(column.run, "gan", seed, code_source(column.run, None), 0)(at)))
    named = [(title, grid(at_most(images, LARGEST), ACROSS)) for title, images in shown]
    return [(saved(picture, out / f"images-{k}.png"), title) for k, (title, picture) in enumerate(named)]


def _traversals(column: Column, seed: int, out: Path) -> Markup:
    name = "here" if column.title.startswith("after") else "shipped"
    return saved(figures.two_columns(figures.traversals(column.run, seed), 2), out / f"traversals-{name}.png")


def _numbers(columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """Return a table with a row for each number and a column for each kind of images."""
    first = columns[0]
    kinds = [("real images", first.fid["reals"], None), ("untrained", first.fid["untrained"], None)]
    kinds += [("decodings of its VAE", first.fid["vae"], first.aligned["vae"])]
    kinds += [(c.title, c.fid["gan"], c.aligned["gan"]) for c in columns]
    rows = [[FID, *(f"{fid['fid']:.3g}" for _, fid, _ in kinds)]]
    if first.fid["gan"]["fidelity"] is not None:
        rows.append([SPRITES, *(f"{fid['fidelity']:.1%}" for _, fid, _ in kinds)])
    for name in measure.r2_of(first.aligned["gan"]):
        found = [aligned and measure.r2_of(aligned)[name] for _, _, aligned in kinds]
        rows.append([f"{name} of a source found in its image (R^2)", *("" if r is None else f"{r:.3f}" for r in found)])
    for name in (n for n in measure.accuracy_of(first.aligned["gan"]) if n not in measure.r2_of(first.aligned["gan"])):
        found = [aligned and measure.accuracy_of(aligned)[name] for _, _, aligned in kinds]
        rows.append([f"{name} of a source found in its image", *("" if a is None else f"{a:.1%}" for a in found)])
    return ["", *(title for title, _, _ in kinds)], rows


def _targets(column: Column) -> tuple[list[str], list[list[str]]]:
    """Return a table of targets, what was measured, and whether it is enough."""
    gan, vae, untrained = (column.fid[kind] for kind in ("gan", "vae", "untrained"))
    ratio = untrained["fid"] / gan["fid"]
    targets = [
        (
            f"FID at least {TIMES_BELOW_UNTRAINED} times below that of the untrained generator",
            f"{ratio:.1f} times",
            ratio >= TIMES_BELOW_UNTRAINED,
        ),
        (
            "FID below that of its VAE's decodings",
            f"{gan['fid']:.3g} and {vae['fid']:.3g}",
            gan["fid"] < vae["fid"],
        ),
    ]
    if gan["fidelity"] is not None:
        measured = f"{gan['fidelity']:.1%}"
        targets.append((f"at least {FAITHFUL:.0%} faithful sprites", measured, gan["fidelity"] >= FAITHFUL))
    rows = [[target, measured, "yes" if reached else "not yet"] for target, measured, reached in targets]
    return ["target", "measured here", "reached"], rows


def _protocol(run: Run, plan: ComparisonPlan) -> str:
    return (
        f"{plan.samples:,} images of each kind, evaluation seed {plan.seed}; network of the features and readings "
        f"{plan.net.protocol} {plan.net.sha256[:12]}; codes: {code_source(run, None)}."
    )


def _config(run: Run) -> str:
    return (run.path / "config.yaml").read_text()
