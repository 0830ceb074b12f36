"""The backgrounds of Scream's factor network: textures, views of pictures, accuracy, and what is warned of."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_shards.read.dsprites_variants import Painting, load_painting
from data_shards.sources.sprites.renderer import classes, factors_of
from evaluation import fid_steps
from evaluation.factors import backgrounds, train_factor_net
from evaluation.factors.choose import extractor_for
from evaluation.factors.factor_network import SCREAM_WEIGHTS, WEIGHTS, FactorExtractor, load_factor_extractor
from evaluation.fid import extractors
from models import FactorPrediction
from tests.support.evaluating import answer, evaluate
from tests.support.training import finish, train
from trainer.config.feature_networks import sha256
from trainer.config.sections import DataConfig
from trainer.distributed.world import ALONE

SCREAM = load_factor_extractor(SCREAM_WEIGHTS)
OF_THE_FAMILY = load_factor_extractor(WEIGHTS)
INDICES = torch.arange(64) * 11_000


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of 500 x 400 px with a bright lower right corner."""
    pixels = np.zeros((400, 500, 3), np.uint8)
    pixels[200:, 250:] = (250, 120, 30)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_texture_is_a_function_of_its_number_and_the_kinds_differ() -> None:
    drawn = [backgrounds.texture(k) for k in range(8)]
    for k, pixels in enumerate(drawn):
        assert pixels.shape == (3, 274, 350)
        assert pixels.float().flatten(1).std(1).max() > 8  # levels of 255
        assert torch.equal(pixels, backgrounds.texture(k))
    assert not any(torch.equal(a, b) for k, a in enumerate(drawn) for b in drawn[:k])


def test_views_begin_with_the_picture_as_runs_draw_it(picture: Path) -> None:
    first, *others = backgrounds.views(picture, 6)
    assert torch.equal(first.float() / 255, load_painting(picture).pixels)
    assert len({tuple(view.shape) for view in others}) > 1
    again = backgrounds.views(picture, 6)
    assert all(torch.equal(a, b) for a, b in zip([first, *others], again, strict=True))
    for view in others:  # the bright quarter keeps its area, wherever a flip has put it
        assert view.amax(0).gt(40).float().mean() == pytest.approx(0.25, abs=0.02)


def test_the_pool_has_as_many_views_as_textures(picture: Path) -> None:
    found = backgrounds.pool([picture], 4)
    assert len(found) == 8
    assert torch.equal(found[2], backgrounds.texture(2))
    assert torch.equal(found[4], backgrounds.views(picture, 1)[0])


class Oracle(FactorExtractor):
    """Reads the truth, but every x one pixel too far right, and every fourth shape wrong."""

    def extract(self, images: torch.Tensor) -> tuple[torch.Tensor, FactorPrediction]:
        factors = factors_of(classes(INDICES.numpy()))
        shape = torch.from_numpy(factors.shape)
        shape[::4] = (shape[::4] + 1) % 3
        scale, x, y = (torch.from_numpy(f).float() for f in (factors.scale, factors.x, factors.y))
        one_hot = torch.nn.functional.one_hot(shape, 3).float()
        return torch.empty(0), FactorPrediction(one_hot, scale, x + 1 / 32, y, torch.zeros(len(x), 3, 2))


def test_accuracy_of_known_answers() -> None:
    oracle = Oracle(SCREAM.network, SCREAM.sha256)
    found = backgrounds.accuracy(oracle, load_painting(None), INDICES)
    assert found == {"shape": 0.75, "position_px": pytest.approx(1, abs=1e-5), "scale": pytest.approx(0, abs=1e-6)}


def test_the_recorded_accuracies_are_those_of_the_shipped_weights() -> None:
    record = json.loads(SCREAM_WEIGHTS.with_suffix(".json").read_text())["held_out"]
    measured = train_factor_net.accuracies(SCREAM, [])
    for kind, found in measured.items():
        assert found["shape"] == pytest.approx(record[kind]["shape"], abs=2e-3)
        assert found["position_px"] == pytest.approx(record[kind]["position_px"], abs=0.02)
    of_the_family = train_factor_net.accuracies(OF_THE_FAMILY, [])
    for kind in ("bands", "noise", "discs", "cells"):
        assert 1 - measured[kind]["shape"] < (1 - of_the_family[kind]["shape"]) / 2


def test_scream_alone_has_the_network_of_many_backgrounds() -> None:
    shas = {variant: extractor_for(Path("run"), "dsprites", variant).sha256 for variant in ("plain", "noisy", "scream")}
    assert shas == {"plain": sha256(WEIGHTS), "noisy": sha256(WEIGHTS), "scream": sha256(SCREAM_WEIGHTS)}


def test_a_painting_that_the_network_does_not_know_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    tiles = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (3, 40, 50))).float()
    strange = Painting(tiles.repeat_interleave(7, 1).repeat_interleave(7, 2), "tiles.png", "")
    with caplog.at_level(logging.WARNING):
        backgrounds.warn_of_painting(SCREAM, load_painting(None))
        backgrounds.warn_of_painting(SCREAM, None)
    assert caplog.text == ""
    backgrounds.warn_of_painting(OF_THE_FAMILY, strange)
    assert "painting: on tiles.png the factor network reads" in caplog.text


def test_figures_of_before_there_was_a_network_of_scream_keep_theirs() -> None:
    assert extractor_for(Path("export"), "dsprites", "scream", OF_THE_FAMILY.sha256).sha256 == OF_THE_FAMILY.sha256
    assert extractor_for(Path("export"), "dsprites", "scream", SCREAM.sha256).sha256 == SCREAM.sha256


def test_a_picture_that_is_not_there_is_told_before_the_training(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "nowhere.png"
    options = ["--scream", str(picture), "--held-out", str(missing)]
    monkeypatch.setattr("sys.argv", ["train_factor_net", str(tmp_path / "net.safetensors"), *options])
    with pytest.raises(SystemExit):
        train_factor_net.main()
    assert f"error: {missing}: not a readable picture" in capsys.readouterr().err


def test_a_training_of_one_iteration_leaves_weights_and_their_record(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_factor_net, "TEXTURES", 2)
    monkeypatch.setattr(train_factor_net, "TESTED", 16)
    out, other = tmp_path / "net.safetensors", tmp_path / "other.png"
    Image.fromarray(np.full((80, 90, 3), 7, np.uint8)).save(other)
    options = ["--scream", str(picture), "--held-out", str(other), "--iterations", "1"]
    monkeypatch.setattr("sys.argv", ["train_factor_net", str(out), *options])
    train_factor_net.main()
    record = json.loads(out.with_suffix(".json").read_text())
    assert load_factor_extractor(out).sha256 == record["sha256"] == sha256(out)
    assert record["pictures"] == {"picture.png": sha256(picture), "other.png": sha256(other)}
    assert record["command"].endswith("net.safetensors --iterations 1 --scream picture.png --held-out other.png")
    assert set(record["held_out"]) == {"default texture", "bands", "noise", "discs", "cells", "other.png"}


def test_a_scream_run_is_measured_by_its_network_and_a_strange_painting_is_told_once(
    sprites: Path, tmp_path: Path
) -> None:
    tiles = np.random.default_rng(0).integers(0, 2, (120, 120, 3)).astype(np.uint8) * 255
    Image.fromarray(tiles).save(tmp_path / "tiles.png")
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 1, data__variant="scream", data__painting=tmp_path / "tiles.png"))
    measured = evaluate(tmp_path / "logs", "fid", run, "--samples", 32)
    assert answer(measured)["extractor"] == SCREAM.sha256
    assert measured.err.count(f"on {tmp_path / 'tiles.png'} the factor network reads") == 1
    made = evaluate(tmp_path / "logs", "reference", sprites, "--variant", "scream", "--samples", 32)
    assert answer(made)["extractor"] == SCREAM.sha256
    assert "the factor network reads" not in made.err
    of_the_run = DataConfig(path=sprites, variant="scream", painting=tmp_path / "tiles.png")
    reals = fid_steps.open_reals(of_the_run, 0)
    older = extractors.shipped(OF_THE_FAMILY)
    path, _ = fid_steps.make_reference(reals, older, None, 32, 0, tmp_path / "references", ALONE)
    again = evaluate(tmp_path / "logs", "fid", run, "--samples", 32, "--reference", path)
    assert answer(again)["extractor"] == OF_THE_FAMILY.sha256
