"""Metrics on drawn faces: continuous factors in bins, sources whose values are known, protocols of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_shards.read.loader import Level, open_dataset
from data_shards.sources.faces.factors import BINS, Part
from data_shards.sources.faces.render import render
from data_shards.sources.faces.styles import open_style
from evaluation.alignment.found_factors import alignment
from evaluation.disentanglement.encoding import faces_at
from evaluation.disentanglement.labelled_codes import places, random_factors
from evaluation.factors.face_network import load_face_extractor
from evaluation.inputs.run import Run
from tests.support.data_sets import run as data_shards
from tests.support.evaluating import answer, quickly, refused
from tests.support.training import finish, train, train_system
from trainer.config.schema import GanConfig
from trainer.config.sections import DataConfig
from trainer.stages.data import open_data

COUNT, SEED = 96, 3
STYLE = open_style()
SIZES = [factor.size for factor in STYLE.factors]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces at 64 px."""
    out = tmp_path_factory.mktemp("faces") / "set"
    made = data_shards("make", "faces", "--out", out, "--count", COUNT, "--workers", 1)
    assert made.code == 0, made.err
    return out


@pytest.fixture(scope="module")
def runs(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A VAE and an ID-GAN on faces."""
    root = tmp_path_factory.mktemp("runs")
    finish(train("vae", faces, root / "vae", 2))
    finish(train("gan", faces, root / "gan", 2, vae=root / "vae", s_dim=4))
    return {"vae": root / "vae", "gan": root / "gan"}


def test_a_face_of_the_grid_has_the_middle_of_its_bins() -> None:
    """Against `render`, which takes values by name."""
    classes = random_factors(np.random.default_rng(0), 3, SIZES)
    images = torch.cat(list(faces_at(STYLE, places(classes, SIZES))))
    for row, image in zip(classes, images, strict=True):
        values = {
            factor.name: factor.variants[k]
            if isinstance(factor, Part)
            else factor.low + (factor.high - factor.low) * (2 * k + 1) / (2 * BINS)
            for factor, k in zip(STYLE.factors, row, strict=True)
        }
        assert (image.permute(1, 2, 0).numpy() == render(values, 64)).all()


class Memory(nn.Module):
    """q that knows the images of a set, by their numbers: an image in [-1, 1] -> (its number, 0)."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        self.images = level.read_samples(np.arange(level.count))
        self.numbers = {image.numpy().tobytes(): float(i) for i, image in enumerate(self.images)}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        images = ((x + 1) * 127.5).round().to(torch.uint8)
        code = torch.tensor([[self.numbers[image.numpy().tobytes()]] for image in images])
        return code, torch.zeros_like(code)


class Shower(nn.Module):
    """G that shows the image of a code, or always the first one. blind: to the code."""

    def __init__(self, memory: Memory, blind: bool) -> None:
        super().__init__()
        self.images, self.blind = memory.images, blind

    def forward(self, latent: Tensor) -> Tensor:
        rows = latent[:, -1].long()
        return self.images[torch.zeros_like(rows) if self.blind else rows].float() / 127.5 - 1


def scores(faces: Path, blind: bool) -> dict[str, Any]:
    settings = {"data": {"path": str(faces)}, "schedule": {"total_kimg": 1}, "c_dim": 1, "s_dim": 2}
    config = GanConfig.model_validate(settings)
    data = open_data(DataConfig(path=faces), 0)
    memory: Any = Memory(open_dataset(faces, 64))
    run = Run(Path("run"), Path("step"), {}, config, data, Shower(memory, blind), None, memory, None, "an oracle", {})
    return alignment(run, load_face_extractor(), COUNT, SEED)


def test_a_perfect_generator_scores_what_the_reals_score(faces: Path) -> None:
    measured = scores(faces, blind=False)
    assert measured["gan"] == measured["reals"]
    reals = measured["reals"]
    assert {*reals["r2"], *reals["accuracy"]} == {factor.name for factor in STYLE.factors}
    assert min(reals["r2"].values()) > 0.95
    assert min(reals["accuracy"].values()) > 0.9


def test_a_generator_that_ignores_the_code_scores_nothing(faces: Path) -> None:
    blind = scores(faces, blind=True)["gan"]
    assert max(blind["r2"].values()) <= 0.05
    for factor in STYLE.factors:
        if isinstance(factor, Part):
            assert blind["accuracy"][factor.name] < 2 / factor.size


def test_metrics_have_a_protocol_of_their_own(runs: dict[str, Path], tmp_path: Path) -> None:
    record = answer(finish(quickly(tmp_path, "disentanglement", runs["vae"], "--protocol", "faces-short")))
    assert record["factors"] == dict(zip((factor.name for factor in STYLE.factors), SIZES, strict=True))
    assert {record[name]["protocol"] for name in ("fvm", "dci", "sap")} == {"faces-short"}
    assert {record[name]["protocol"] for name in ("mig", "modularity")} == {"faces"}
    running = quickly(tmp_path, "disentanglement", runs["vae"], "--protocol", "paper")
    refused(running, "--protocol: paper is for other data sets", "faces, faces-short")


def test_a_network_of_other_images_is_refused(runs: dict[str, Path], vae: Path, tmp_path: Path) -> None:
    wrong = quickly(tmp_path, "fid", runs["gan"], "--samples", 8, "--protocol", "factor-net")
    refused(wrong, "of faces; the network of factor-net knows dsprites only; use --protocol face-net")
    wrong = quickly(tmp_path, "fid", vae, "--samples", 8, "--protocol", "face-net")
    refused(wrong, "of dsprites; the network of face-net knows faces only; use --protocol factor-net")


def test_mirrored_faces_are_refused(faces: Path, tmp_path: Path) -> None:
    running = finish(train_system("gan", faces, tmp_path / "run", 2, data__flip="true"), 2)
    assert "data.flip: true, but drawn faces are never mirrored" in running.err


def test_faces_of_another_version_of_the_style_are_warned_of(faces: Path, tmp_path: Path) -> None:
    """As the encoder's export and the face network learnt them, by a set whose manifest names another definition."""
    other = tmp_path / "set"
    shutil.copytree(faces, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["recipe"]["definition"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    shipped = {"vae": "pretrained/faces-beta_vae", "c_dim": 20, "s_dim": 4}
    for data, warned in ((other, True), (faces, False)):
        run = tmp_path / data.parent.name / "gan"
        trained = finish(train("gan", data, run, 1, **shipped))
        assert ("vae: pretrained/faces-beta_vae learnt faces of other versions" in trained.err) == warned
        for command in ("fid", "alignment"):
            asked = finish(quickly(tmp_path, command, run, "--samples", 8))
            assert (
                "not drawn as those that the face network learnt (another version of the style" in asked.err
            ) == warned


def test_a_size_of_drawing_is_no_other_drawing(faces: Path, tmp_path: Path) -> None:
    assert data_shards("make", "faces", "--out", tmp_path / "set", "--count", 1, "--resolutions", "512,64").code == 0
    large, small = (open_dataset(path, 64).manifest for path in (tmp_path / "set", faces))
    assert large.drawn_by != small.drawn_by is not None
    assert large.is_drawn_as(str(small.drawn_by))
    assert small.is_drawn_as(str(large.drawn_by))
    assert not small.is_drawn_as("0" * 64)


def test_faces_of_another_style_are_another_data_set(tmp_path: Path) -> None:
    """The face network has never seen them; what holds for every drawn face holds for them too."""
    out = tmp_path / "set"
    assert data_shards("make", "faces", "--out", out, "--count", 16, "--style", "miniavs", "--workers", 1).code == 0
    running = finish(train_system("gan", out, tmp_path / "mirrored", 2, data__flip="true"), 2)
    assert "data.flip: true, but drawn faces are never mirrored" in running.err
    finish(train("vae", out, tmp_path / "vae", 2))
    finish(train("gan", out, tmp_path / "gan", 2, vae=tmp_path / "vae"))
    asked = finish(quickly(tmp_path, "fid", tmp_path / "gan", "--samples", 8, "--protocol", "face-net"))
    assert answer(asked)["protocol"] == "face-net"
    assert "the network of face-net has not seen faces-miniavs; its distances compare with those of this" in asked.err
    refused(quickly(tmp_path, "alignment", tmp_path / "gan", "--samples", 8), "trained on faces-miniavs")
    finish(quickly(tmp_path, "report", tmp_path / "gan"))
    page = (tmp_path / "gan" / "report" / "index.html").read_text()
    assert "make faces" in page
    assert "--style miniavs" in page
