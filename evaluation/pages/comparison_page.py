"""The files of a comparison of runs: compare.csv, compare.md, compare.png, and a page of all three."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from markupsafe import Markup
from PIL import Image

from common.atomic_writes import publish
from evaluation.factors.latents import traversal_rows
from evaluation.inputs.images import maker, own_kind
from evaluation.inputs.run import Run
from trainer.jobs.exit_file import read_command
from trainer.pictures.image_grids import beside, grid, labelled, save
from trainer.pictures.walks import TRAVERSAL_STEPS

from .comparison import ComparisonPlan, Measured
from .comparison_cells import COLUMNS, as_row, cells_of, means
from .page import bullets, heading, image, preformatted, publish_page, section, table, wide

SAMPLES, SAMPLE_COLUMNS, SHOWN_LATENTS = 40, 8, 5


class Written(NamedTuple):
    """A comparison's table and files. title: of the table; rows: cells under COLUMNS."""

    title: str
    rows: list[list[str]]
    files: list[Path]


def write(out: Path, plan: ComparisonPlan, ceiling: Measured, measured: Sequence[Measured]) -> Written:
    """Write the files to the folder `out`. ceiling: the measures of reals."""
    runs = [one.run for one in measured]
    rows = [as_row(cells_of(ceiling, of_reals=True)), *(as_row(cells_of(one)) for one in measured)]
    rows += [as_row(cells) for cells in means(measured)]
    data = runs[0].data.main.manifest
    encoders = f"FVM {plan.fvm}, MIG dlib, " if plan.fvm else ""
    title = (
        f"{data.data_set} ({runs[0].config.data.variant}, {data.count:,} images): FID and alignment from "
        f"{plan.samples:,} images, {plan.net.protocol} {plan.net.sha256[:12]}, {encoders}evaluation seed {plan.seed}"
    )
    notes = _notes(runs, ceiling, plan)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"compare.{end}" for end in ("csv", "md", "png")]
    publish(files[0], _csv(rows).encode())
    publish(files[1], _markdown(title, rows, notes).encode())
    save(picture(runs, plan), files[2])
    files.append(publish_page(out / "index.html", "Comparison", _page(title, rows, notes, files[2], runs)))
    return Written(title, rows, files)


def _notes(runs: Sequence[Run], ceiling: Measured, plan: ComparisonPlan) -> list[str]:
    """Return what a reader must know beside the numbers."""
    seeds = sorted({run.config.seed for run in runs})
    notes = [f"Training seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}; one run a row."]
    kinds = ceiling.fid["kinds"]
    notes.append(f"Codes {'as in training' if plan.requested is None else 'of the ' + plan.requested}.")
    notes.append(f"FID of reals: {kinds['reals']['count']:,} against {kinds['reference_count']:,} others.")
    for what, values in (
        ("iterations", {run.manifest["iteration"] for run in runs}),
        ("batch size", {run.config.batch_size for run in runs}),
        ("resolution", {int(run.manifest["resolution"]) for run in runs}),
    ):
        if len(values) > 1:
            notes.append(f"NOT EQUAL in {what}: {', '.join(f'{v:,}' for v in sorted(values))}.")
    return notes


def _csv(rows: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([list(COLUMNS), *rows])
    return stream.getvalue()


def _markdown(title: str, rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(cells)} |" for cells in (list(COLUMNS), ["---"] * len(COLUMNS), *escaped)]
    legend = [f"* {name}: {meaning}" for name, meaning in COLUMNS.items()]
    return "\n".join([f"{title}. {' '.join(notes)}", "", *lines, "", *legend, ""])


def picture(runs: Sequence[Run], plan: ComparisonPlan) -> Image.Image:
    """Draw samples and traversals side by side, the runs below each other, the reals on top."""
    blocks = [("reals", grid(runs[0].reals.at(plan.seed, torch.arange(SAMPLES)), SAMPLE_COLUMNS))]
    for run in runs:
        samples = maker(run, own_kind(run), plan.seed, plan.codes(run), 0)(torch.arange(SAMPLES))
        blocks.append(
            (_wrapped(run.config.system), beside([grid(samples, SAMPLE_COLUMNS), traversals(run, plan.seed)]))
        )
    return labelled(blocks, gap=12)


def traversals(run: Run, seed: int) -> Image.Image:
    """Draw linspace(-3, 3, 7) along the latents with the largest KL or, without an encoder, along the first ones."""
    rows = traversal_rows(run, seed)[:SHOWN_LATENTS]
    return labelled([(row.name, grid(row.images, TRAVERSAL_STEPS)) for row in rows], width=34)


def _wrapped(system: str) -> str:
    return system.replace(" without ", "\nwithout\n")


def _page(
    title: str, rows: Sequence[Sequence[str]], notes: Sequence[str], shown: Path, runs: Sequence[Run]
) -> list[Markup]:
    """Return the parts of the page. shown: the picture."""
    legend = [f"{name}: {text}" for name, text in COLUMNS.items()]
    commands = "\n".join(dict.fromkeys(filter(None, (read_command(run.path) for run in runs))))
    about = (
        "Left: samples, codes drawn as behind FID. "
        f"Right: linspace(-3, 3, {TRAVERSAL_STEPS}) along the {SHOWN_LATENTS} latents with the largest KL "
        "of the run's encoder (a GAN without a code: along its first ones, s)."
    )
    return [
        heading("Comparison", f"{title}. {' '.join(notes)}"),
        section("Measured", table(list(COLUMNS), rows)),
        section("Samples and traversals", wide(image(shown)), about),
        section("Columns", bullets(legend)),
        section("The commands that trained these runs", preformatted(commands)),
    ]
