"""The small pictures of a run: the panel of c against s is the paper's, with the VAE's image of each code first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.experiments import sheet
from evaluation.inputs.images import codes, generate, nuisance, of_codes
from evaluation.inputs.run import open_run
from evaluation.pages.pdf import Panel

LEFT, TOP, CELL = 39, 26, 66  # px of the names of rows and columns; of an image with its margin


def test_c_against_s_has_five_of_each_and_what_the_vae_makes_of_c(systems: dict[str, Path], tmp_path: Path) -> None:
    run = open_run(systems["idgan"])
    assert [path.stem for path in sheet.draw(run, tmp_path, 0)] == ["reals", "samples", "traversals", "joint"]
    picture = np.asarray(Image.open(tmp_path / "joint.webp")).astype(int)
    assert picture.shape == (TOP + 5 * (CELL + 2), LEFT + 6 * CELL + 2, 3)
    at = torch.arange(5)
    c, s = codes(run, 0, at, "posterior", 0), nuisance(run, 0, at)
    assert run.generator is not None
    for i in range(5):
        shown = [of_codes(run, "vae", c[i : i + 1], s[:0])[0, 0]]
        shown += [generate(run.generator, s[j : j + 1], c[i : i + 1])[0, 0] for j in range(5)]
        assert abs(shown[0].float() - shown[1].float()).mean() > 8, "which the comparison below can tell apart"
        for j, image in enumerate(shown):
            y, x = TOP + i * (CELL + 2) + 2, LEFT + j * CELL + 2
            found = picture[y : y + 64, x : x + 64].mean(2)
            assert abs(found - image.numpy()).mean() < 4, "but for what WebP loses"
    for j in range(6):
        middle = LEFT + j * CELL + 34
        assert picture[:TOP, middle - 16 : middle + 16].min() < 160, "a title above the column"


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
