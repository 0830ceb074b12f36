"""The shipped factor network on images it never saw, and the fidelity that rests on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.random_numbers import Purpose, integers
from data_shards.read.dsprites_variants import draw, load_painting
from data_shards.read.variant_names import Variant
from data_shards.sources.sprites.renderer import COUNT, Factors, classes, factors_of, render, render_factors
from evaluation.factors.factor_network import WEIGHTS, load_factor_extractor, sprite_iou, to_factors
from evaluation.factors.train_factor_net import held_out
from models import FactorPrediction

EXTRACTOR = load_factor_extractor()


def unseen(count: int) -> torch.Tensor:
    """Held-out dataset indices."""
    index = integers(99, Purpose.EVAL_FACTORS, torch.arange(count * 60), (), COUNT)
    return index[held_out(index)][:count]


@pytest.mark.parametrize("variant", ["plain", "color", "noisy", "scream"])
def test_held_out_accuracy(variant: Variant, capsys: pytest.CaptureFixture[str]) -> None:
    index = unseen(2048)
    assert len(index) == 2048
    sprites = torch.from_numpy(render(index.numpy())).unsqueeze(1) * 255
    images = draw(variant, sprites, index, torch.zeros_like(index), 7, load_painting(None))
    visible = images.amax((1, 2, 3)) > 0  # Color draws black on black once in 512
    truth = factors_of(classes(index.numpy()))
    prediction = EXTRACTOR.extract(images)[1]
    shape = (prediction.shape.argmax(1).numpy() == truth.shape)[visible.numpy()].mean()
    gaps = [np.abs(p.numpy() - t) * 32 for p, t in ((prediction.x, truth.x), (prediction.y, truth.y))]
    error = np.hypot(*gaps)[visible.numpy()].mean()
    scale = np.abs(prediction.scale.numpy() - truth.scale)[visible.numpy()].mean()
    with capsys.disabled():
        print(
            f"\nfactor network, held-out {variant}: shape {shape:.2%}, position error {error:.2f} px, scale {scale:.3f}"
        )
    if variant in ("plain", "color"):
        assert shape >= 0.99
        assert error < 1


def test_fidelity_of_reals_of_shifted_and_of_blank_images() -> None:
    index = unseen(512)
    sprites = torch.from_numpy(render(index.numpy())).unsqueeze(1) * 255
    prediction = EXTRACTOR.extract(sprites)[1]
    assert (sprite_iou(sprites, prediction) >= 0.8).mean() >= 0.95
    assert (sprite_iou(sprites.roll(6, -1), prediction) >= 0.8).mean() < 0.05
    assert (
        sprite_iou(torch.zeros(2, 1, 64, 64, dtype=torch.uint8), prediction_of(factors_of(classes([5, 6])))).max() == 0
    )


def prediction_of(factors: Factors) -> FactorPrediction:
    """A prediction that says exactly these factors."""
    shape = torch.from_numpy(factors.shape)
    theta = torch.from_numpy(factors.theta)[:, None] * torch.tensor([4, 2, 1])
    return FactorPrediction(
        torch.nn.functional.one_hot(shape, 3).float(),
        torch.from_numpy(factors.scale),
        torch.from_numpy(factors.x),
        torch.from_numpy(factors.y),
        torch.stack((theta.cos(), theta.sin()), -1).float(),
    )


def test_true_factors_redraw_the_image() -> None:
    index = unseen(300).numpy()
    prediction = prediction_of(factors_of(classes(index)))
    again = render_factors(to_factors(prediction))
    assert (again == render(index)).mean() > 0.9995
    images = torch.from_numpy(render(index)).unsqueeze(1) * 200
    assert sprite_iou(images, prediction).min() > 0.9
    large = torch.from_numpy(render(index[:20], 256)).unsqueeze(1)
    few = FactorPrediction(*(p[:20] for p in prediction))
    assert sprite_iou(large, few).min() > 0.8


def test_grey_is_repeated_and_large_images_are_pooled() -> None:
    images = torch.from_numpy(render(unseen(4).numpy())).unsqueeze(1) * 255
    grey = EXTRACTOR.extract(images)[0]
    colour = EXTRACTOR.extract(images.expand(-1, 3, -1, -1))[0]
    large = EXTRACTOR.extract(images.repeat_interleave(4, -1).repeat_interleave(4, -2))[0]
    torch.testing.assert_close(grey, colour)
    torch.testing.assert_close(grey, large, rtol=1e-4, atol=1e-4)
    assert grey.shape == (4, 128)


def test_other_weights_than_the_recorded_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / WEIGHTS.name
    shutil.copy(WEIGHTS, copy)
    shutil.copy(WEIGHTS.with_suffix(".json"), tmp_path)
    with open(copy, "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x00" if stream.read(1) != b"\x00" else b"\x01")
    with pytest.raises(UserError, match=r"sha256 is .* is recorded; install the package again"):
        load_factor_extractor(copy)


def test_the_held_out_images_are_spread_and_have_no_twin_in_training() -> None:
    index = torch.arange(COUNT)
    kept = held_out(index)
    assert abs(float(kept.double().mean()) - 1 / 36) < 1e-3
    found = classes(index[kept].numpy())
    for column, size in zip(found.T, (3, 6, 40, 32, 32), strict=True):
        assert len(np.unique(column)) == size
    turned = kept.view(18, 40, 1024)
    assert torch.equal(turned[:, 0], turned[:, 39])
