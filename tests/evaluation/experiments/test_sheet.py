"""The small pictures of a run: the panel of c against s is the paper's, with the VAE's image of each code first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.experiments import sheet
from evaluation.inputs.run import open_run
from evaluation.pages import figures
from evaluation.pages.pdf import Panel

LEFT, TOP, CELL = 39, 26, 66  # px of the names of rows and columns; of an image with its margin


def test_c_against_s_has_five_of_each_and_what_the_vae_makes_of_c(systems: dict[str, Path], tmp_path: Path) -> None:
    run = open_run(systems["idgan"])
    assert [path.stem for path in sheet.draw(run, tmp_path, 0)] == ["reals", "samples", "traversals", "joint"]
    picture = np.asarray(Image.open(tmp_path / "joint.webp")).astype(int)
    figure = np.asarray(figures.pane(figures.code_and_nuisance(run, "posterior", 0))).astype(int)
    assert picture.shape == figure.shape
    assert abs(picture - figure).mean() < 4, "but for what WebP loses"
    assert abs(picture - figure[:, ::-1]).mean() > 8, "which would be seen"


def test_a_gan_without_a_code_has_no_such_panel(systems: dict[str, Path], tmp_path: Path) -> None:
    assert [path.stem for path in sheet.draw(open_run(systems["gan"]), tmp_path, 0)][-1] == "traversals"


def test_large_images_are_averaged_down(monkeypatch: pytest.MonkeyPatch, systems: dict[str, Path]) -> None:
    large = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    panel = Panel("c against s", "", [("c1", large)], ["s1", "s2"])
    monkeypatch.setattr(sheet, "code_and_nuisance", lambda *_: panel)
    picture = np.asarray(sheet._joint(open_run(systems["idgan"]), 0))
    assert picture.shape == (TOP + CELL + 2, LEFT + 2 * CELL + 2, 3)
    expected = large[0].float().unflatten(1, (64, 2)).unflatten(3, (64, 2)).mean((2, 4)).permute(1, 2, 0)
    assert abs(picture[TOP + 2 : TOP + CELL, LEFT + 2 : LEFT + CELL] - expected.numpy()).max() <= 1
