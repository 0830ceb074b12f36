"""The figure of c against s: what stands in each cell, and the names of rows and columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from evaluation.inputs.images import codes, generate, nuisance, of_codes
from evaluation.inputs.run import open_run
from evaluation.pages import figures


def test_rows_and_columns_of_the_figure_are_counted_from_1(systems: dict[str, Path]) -> None:
    panel = figures.code_and_nuisance(open_run(systems["idgan"]), "posterior", 0)
    assert panel.columns == ["VAE", "s1", "s2", "s3", "s4", "s5"]
    assert [name for name, _ in panel.rows] == ["c1", "c2", "c3", "c4", "c5"]


def test_the_figure_shows_the_first_pairs_of_the_grid_under_their_names(systems: dict[str, Path]) -> None:
    run = open_run(systems["idgan"])
    picture = np.asarray(figures.pane(figures.code_and_nuisance(run, "posterior", 0))).astype(int)
    left, top, cell = 39, 26, 66
    assert picture.shape == (top + 5 * (cell + 2), left + 6 * cell + 2, 3)
    at = torch.arange(5)
    c, s = codes(run, 0, at, "posterior", 0), nuisance(run, 0, at)
    assert run.generator is not None
    for i in range(5):
        shown = [of_codes(run, "vae", c[i : i + 1], s[:0])[0, 0]]
        shown += [generate(run.generator, s[j : j + 1], c[i : i + 1])[0, 0] for j in range(5)]
        for j, image in enumerate(shown):
            y, x = top + i * (cell + 2) + 2, left + j * cell + 2
            assert abs(picture[y : y + 64, x : x + 64, 0] - image.numpy()).max() <= 1
        assert picture[top + i * (cell + 2) : top + (i + 1) * (cell + 2), :left].min() < 128, f"c{i + 1}"
    for j in range(6):
        middle = left + j * cell + 2 + 32
        assert picture[:top, middle - 16 : middle + 16].min() < 128, "a title above the middle of its column"
        assert picture[:top, middle + 20 : middle + 46].min() == 255
