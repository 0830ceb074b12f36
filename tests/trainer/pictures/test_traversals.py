"""Traversals as a picture: every pixel of a sheet, and the order of its rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from trainer.apps.explore import sliders
from trainer.pictures import traversals
from trainer.pictures.traversals import by_kl, largest_kl_first, sheet

WIDE, HIGH = 120 + 7 * 66 + 2, 68  # px: labels, seven images of 64 px with 2 px around each


def shade(codes: Tensor, side: int) -> Tensor:
    """Images of one grey each with a black pixel, so that an image that is turned or moved differs."""
    images = (100 + 20 * codes.sum(1)).to(torch.uint8)[:, None, None, None].repeat(1, 1, side, side)
    images[:, :, 1, 3] = 0
    return images


def shown(picture: np.ndarray, row: int) -> np.ndarray:
    """The seven images of a row, [7, 64, 64] of one channel, where all three have the same."""
    top = row * HIGH + 2
    parts = [picture[top : top + 64, 122 + 66 * k : 186 + 66 * k] for k in range(7)]
    assert all((part == part[:, :, :1]).all() for part in parts)
    return np.stack(parts)[..., 0]


def test_a_sheet_has_seven_images_a_row_and_decodings_above() -> None:
    base = torch.tensor([[0.5, -0.25]])
    alone = np.asarray(sheet(base, [(1, "c2"), (0, "c1")], lambda c: shade(c, 64), None))
    both = np.asarray(sheet(base, [(1, "c2"), (0, "c1")], lambda c: shade(c, 64), lambda c: shade(-c, 32)))
    assert alone.shape == (2 * HIGH, WIDE, 3)
    assert both.shape == (4 * HIGH, WIDE, 3)
    for row, (latent, other) in enumerate(((1, 0.5), (0, -0.25))):
        for k, value in enumerate((-3, -2, -1, 0, 1, 2, 3)):
            expected = np.full((64, 64), int(100 + 20 * (value + other)))
            expected[1, 3] = 0
            assert (shown(alone, row)[k] == expected).all(), latent
            assert (shown(both, 2 * row + 1)[k] == expected).all()
            decoding = np.full((64, 64), int(100 - 20 * (value + other)))
            decoding[2:4, 6:8] = 0  # a pixel of 32 px is four of 64 px
            assert (shown(both, 2 * row)[k] == decoding).all()
    labels = both[:, :120].min((1, 2)).reshape(4, HIGH).min(1)
    assert (labels < 100).tolist() == [True, False, True, False], "a label stands beside the decodings alone"


def test_the_largest_kl_comes_first() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, logvar = torch.randn(50, 5, generator=generator), torch.randn(50, 5, generator=generator) / 3
    mean[:, 3], logvar[:, 3] = 0, 0
    truth = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0, 1)).mean(0)
    found = largest_kl_first((mean, logvar))
    assert [nats for _, nats in found] == pytest.approx(sorted(truth.tolist(), reverse=True), abs=1e-5)
    assert [nats for _, nats in found] == pytest.approx([float(truth[j]) for j, _ in found], abs=1e-5)
    assert found[-1] == (3, 0)
    assert by_kl((mean, logvar), 5) == [(j, f"c{j + 1}\nKL {nats:.2f} nats") for j, nats in found]
    assert by_kl(None, 2) == [(0, "c1"), (1, "c2")]


@pytest.mark.parametrize(("nats", "collapsed"), [(0.0099, True), (0.0101, False), (None, False)])
def test_a_slider_is_collapsed_below_a_hundredth_of_a_nat(nats: float | None, collapsed: bool) -> None:
    assert traversals.COLLAPSED == 0.01
    assert sliders.Slider("c1", "c", 0, nats).is_collapsed == collapsed
