"""FOLDER/index.html of an experiment: the table, samples and traversals of the systems beside each other, a chart.

The panels are those of the paper's Figures A.2 to A.5 and A.10.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from evaluation.pages.charts import svg
from evaluation.pages.page import bullets, figures, heading, inline_image, publish_page, section
from evaluation.pages.page import table as html_table

from . import claims
from .results import CellResults, ExperimentResults
from .table import Table, numbers_of_seeds, statistics, title_of

TRAVERSED = ("beta-VAE", "InfoGAN", "ID-GAN")
JOINT = ("ID-GAN", "InfoGAN")
SPREAD = "Mean and standard deviation over the seeds."


def write(results: ExperimentResults, table: Table) -> Path:
    """Write the page beside the results. Returns its path."""
    parts = [
        heading(table.title, " ".join(f"{line}." for line in table.measured)),
        section("Measured", Markup().join(html_table(*part) for part in table.parts()), SPREAD),
        *_claims(table),
        *_charts(results),
        *_samples(results),
        *_traversals(results),
        *_joint(results),
        section("Columns", bullets(table.legend)),
    ]
    return publish_page(results.folder / "index.html", table.title, parts)


def _claims(table: Table) -> Iterator[Markup]:
    if table.claims:
        note = "Of the experiment's file. A claim holds where every pair of seeds fulfils its test."
        yield section("Claims", html_table(claims.HEAD, table.claims), note)


def _groups(results: ExperimentResults) -> dict[str, list[CellResults]]:
    """Return the cells that have pictures by the title of what they have in common, the images that they learn.

    That is a variant, and with it the cells of all variants that have its data set; the data set of the others.
    """
    sets: dict[str, set[str]] = {}
    for cell in results.cells:
        sets.setdefault(cell.variant, set()).add(cell.data_set)
    alone = len({cell.data_set for cell in results.cells}) == 1
    found: dict[str, list[CellResults]] = {variant: [] for variant in sets if variant}
    for cell in (cell for cell in results.cells if cell.finished):
        shared = [variant for variant in sets if variant and cell.data_set in sets[variant]]
        for title in [cell.variant] if cell.variant else shared or ["" if alone else cell.data_set]:
            found.setdefault(title, []).append(cell)
    return {title: cells for title, cells in found.items() if cells}


def _caption(cell: CellResults, cells: Sequence[CellResults]) -> str:
    """The paper's name of a cell's system, with its own where others beside it have that one too."""
    title = title_of(cell)
    return title if [title_of(other) for other in cells].count(title) == 1 else f"{title} ({cell.name})"


def _samples(results: ExperimentResults) -> Iterator[Markup]:
    """Figure A.4: random samples of every system, from the same s and, of one encoder, from the same codes."""
    for title, cells in _groups(results).items():
        own = next((cell for cell in cells if cell.variant == title), cells[0])
        panels = [_panel(results, own, "reals", "reals")]
        panels += [_panel(results, cell, "samples", _caption(cell, cells)) for cell in cells]
        yield from _section(f"Random samples {title}".rstrip(), panels, "")


def _traversals(results: ExperimentResults) -> Iterator[Markup]:
    """Figures A.2 and A.3: every latent of the code, in columns."""
    note = "Rows: c1, c2, ... from one base each; columns: linspace(-3, 3, 7)."
    yield from _panels(results, "traversals", TRAVERSED, "Traversals", note)


def _joint(results: ExperimentResults) -> Iterator[Markup]:
    """Figure A.5: what c decides and what s decides. Sheets of older results have six rows and no column of the VAE."""
    note = "Rows share c, columns share s; first stands the VAE's decoding of c where there is one."
    yield from _panels(results, "joint", JOINT, "c against s", note)


def _panels(
    results: ExperimentResults, picture: str, systems: Sequence[str], title: str, note: str
) -> Iterator[Markup]:
    """Yield a section for each group with a picture of the cells of some systems, in the order of these."""
    for group, cells in _groups(results).items():
        chosen = [cell for system in systems for cell in cells if title_of(cell) == system]
        panels = [_panel(results, cell, picture, _caption(cell, cells)) for cell in chosen]
        yield from _section(f"{title} {group}".rstrip(), panels, note)


def _section(title: str, panels: Sequence[tuple[Markup, str] | None], note: str) -> Iterator[Markup]:
    there = [panel for panel in panels if panel is not None]
    if there:
        yield section(title, figures("pair", there), note)


def _panel(results: ExperimentResults, cell: CellResults, picture: str, title: str) -> tuple[Markup, str] | None:
    """Return a picture of the cell's first finished seed with its title; None where there is no such picture."""
    path = results.folder / next(iter(cell.finished)) / f"{picture}.webp"
    return (inline_image(title, "webp", path.read_bytes()), title) if path.is_file() else None


def _charts(results: ExperimentResults) -> Iterator[Markup]:
    """Figure A.10, where the variants are the values of a setting: FID over them, with its spread over the seeds."""
    try:
        values = sorted({float(cell.variant) for cell in results.cells if cell.variant})
    except ValueError:
        return
    if len(values) < 2:
        return
    yield section("FID over the variants", chart(results), "Error bars: standard deviation over the seeds.")


def chart(results: ExperimentResults) -> Markup:
    """Draw FID over the variants' values, both on logarithmic axes."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for label, points in fid_lines(results).items():
        x, y, spread = zip(*points, strict=True)
        axes.errorbar(x, y, spread, marker="o", capsize=3, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("value")
    axes.set_ylabel("FID")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)
    return svg(figure, "FID over the variants")


def fid_lines(results: ExperimentResults) -> dict[str, list[tuple[float, float, float]]]:
    """Return the lines of the chart by their labels, one for a system of the file and a network of FID.

    A point: the variant's value, FID's mean and standard deviation over the seeds.
    """
    lines: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    titles: dict[str, str] = {}
    for cell in (cell for cell in results.cells if cell.variant and "FID" in statistics(cell)):
        mean, deviation = statistics(cell)["FID"]
        titles[cell.system] = title_of(cell)
        line = cell.system, numbers_of_seeds(cell)["FID"][0].network
        lines.setdefault(line, []).append((float(cell.variant), mean, deviation or 0))
    labels = {}
    for system, network in lines:
        title = titles[system]
        label = title if list(titles.values()).count(title) == 1 else f"{title} ({system})"
        alone = [other for other, _ in lines].count(system) == 1
        labels[system, network] = label if alone else f"{label}, seen by network {network[:12]}"
    return {labels[line]: sorted(points) for line, points in lines.items()}
