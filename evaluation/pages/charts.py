"""Line charts as SVG within a page."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from .page import inline_image

BLUE = "#2b6cb0"


class Line(NamedTuple):
    """A line of a chart. name: in the legend; points: (kimg, value), in order."""

    name: str
    points: Sequence[tuple[float, float]]


def chart(title: str, lines: Sequence[Line]) -> Markup:
    """Draw lines over kimg in one chart, with a legend below it."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    for line in lines:
        axes.plot([x for x, _ in line.points], [y for _, y in line.points], marker="o", markersize=3, label=line.name)
    axes.set_xlabel("kimg", fontsize=8)
    axes.set_ylabel(title, fontsize=8)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", fontsize=7, frameon=False)
    return svg(figure, title)


def curves(title: str, ticks: Sequence[dict[str, Any]], names: Sequence[str], columns: int = 4) -> Markup:
    """Draw a small chart of each name over the ticks."""
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(11, 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, name in zip(axes, names, strict=False):
        axis.plot(
            [t["images_seen"] / 1000 for t in ticks], [t.get(name, math.nan) for t in ticks], color=BLUE, linewidth=1.2
        )
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    figure.supxlabel("kimg", fontsize=8)
    return svg(figure, title)


def svg(figure: Figure, title: str) -> Markup:
    """Return the <img> of a figure as SVG. title: the text in its place."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return inline_image(title, "svg+xml", buffer.getvalue())
