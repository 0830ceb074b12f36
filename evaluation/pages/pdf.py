"""Figures on pages of a PDF: lossless images, and text as vectors."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from torch import Tensor

from common.atomic_writes import publish
from data_shards.format.pyramid import at_most
from trainer.pictures.image_grids import grid

logging.getLogger("fontTools").setLevel(logging.WARNING)  # at INFO it logs every glyph that it embeds

LARGEST = 128  # px of an image on a page; larger ones are box means
A4 = 8.27, 11.69  # inches
MARGIN, LABEL, GAP = 0.6, 0.9, 0.04  # inches
ROWS = 40  # of a page


@dataclass(frozen=True)
class Panel:
    """A table of images. rows: a label on the left and uint8 images [columns, C, R, R]; columns: titles, or none."""

    title: str
    note: str
    rows: Sequence[tuple[str, Tensor]]
    columns: Sequence[str] = ()


def write(path: Path, panels: Sequence[Panel]) -> None:
    """Write a PDF, a page for every ROWS rows of a panel. The file appears complete or not at all."""
    buffer = io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42}), PdfPages(buffer, metadata={"CreationDate": None}) as pages:
        for panel in panels:
            for at in range(0, len(panel.rows), ROWS):
                pages.savefig(_page(replace(panel, rows=panel.rows[at : at + ROWS])))
    publish(path, buffer.getvalue())


def _page(panel: Panel) -> Figure:
    figure, across = Figure(figsize=A4), max(len(images) for _, images in panel.rows)
    label = LABEL if any(text for text, _ in panel.rows) else 0.0
    top = A4[1] - MARGIN - 0.8
    side = min((A4[0] - 2 * MARGIN - label) / across, (top - MARGIN) / len(panel.rows))
    figure.text(MARGIN / A4[0], 1 - MARGIN / A4[1], panel.title, fontsize=14, va="top")
    figure.text(MARGIN / A4[0], 1 - (MARGIN + 0.3) / A4[1], panel.note, fontsize=8, va="top", color="#444", wrap=True)
    for j, title in enumerate(panel.columns):
        x = MARGIN + label + (j + 0.5) * side
        figure.text(x / A4[0], (top + 0.05) / A4[1], title, fontsize=8, ha="center")
    for i, (text, images) in enumerate(panel.rows):
        bottom = top - (i + 1) * side
        figure.text(MARGIN / A4[0], (bottom + side / 2) / A4[1], text, fontsize=8, va="center")
        left, width = MARGIN + label, len(images) * side
        axes = figure.add_axes((left / A4[0], bottom / A4[1], width / A4[0], (side - GAP) / A4[1]))
        axes.imshow(np.asarray(grid(at_most(images, LARGEST), len(images))), interpolation="none", aspect="auto")
        axes.set_axis_off()
    return figure
