"""What D sees of an image against other ways to compute it, and what carries tangents and gradients through it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from common.random_numbers import Purpose
from tests.reference import augment
from tests.reference.plain import ALONE
from trainer.config.schema import AdaConfig, DiffAugmentConfig
from trainer.steps.augment.augmenter import Augmentation, Augmenter
from trainer.steps.augment.draws import Draws
from trainer.steps.augment.transforms import (
    ColorMap,
    Contrast,
    Resampling,
    hue_rotation,
    interpolation,
)
from trainer.steps.running_means import Terms

SEED = 5
POSITIONS = torch.arange(400, 424)
ALL: Any = ("flip", "turn", "translation", "scale", "color", "cutout")
KINDS = [DiffAugmentConfig(), AdaConfig(transforms=ALL)]


def images(channels: int = 3, size: int = 16) -> Tensor:
    noise = torch.Generator().manual_seed(0)
    return torch.rand(len(POSITIONS), channels, size, size, generator=noise, dtype=torch.float64) * 2 - 1


def augmenter(config: DiffAugmentConfig | AdaConfig, p: float = 0.8) -> Augmenter:
    made = Augmenter(config, SEED, ALONE, torch.float64)
    if made.probability:
        made.probability.p.fill_(p)
    return made


def chosen(config: DiffAugmentConfig | AdaConfig, x: Tensor, p: float = 0.8) -> Augmentation:
    return augmenter(config, p).augmentation(Purpose.AUGMENT_REAL, POSITIONS, x)


def ada(*transforms: Any, **more: Any) -> AdaConfig:
    return AdaConfig(transforms=transforms, **more)


@pytest.mark.parametrize("channels", [1, 3])
def test_diffaugment_equals_slices_of_each_image(channels: int) -> None:
    x = images(channels)
    expected = augment.diffaugment(x, SEED, Purpose.AUGMENT_REAL, POSITIONS)
    torch.testing.assert_close(chosen(DiffAugmentConfig(), x)(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", KINDS, ids=lambda c: c.kind)
def test_it_is_affine_and_carries_tangents_and_gradients_exactly(config: Any) -> None:
    x, v = images(), torch.randn(images().shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    made = chosen(config, x)
    value, tangent = torch.func.jvp(made, (x,), (v,))
    torch.testing.assert_close(made.along(v), tangent, rtol=0, atol=1e-12)
    torch.testing.assert_close(made(x + 3 * v), value + 3 * tangent, rtol=0, atol=1e-11)
    x.requires_grad_()
    (expected,) = torch.autograd.grad(made(x), x, v)
    torch.testing.assert_close(made.back(v), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reflect", [True, False])
def test_interpolation_equals_grid_sample(reflect: bool) -> None:
    """Which measures places in [-1, 1]: with align_corners=False from edge to edge."""
    x, size = images(), 16
    noise = torch.Generator().manual_seed(2)
    rows, columns = (torch.rand(len(x), size, generator=noise, dtype=torch.float64) * 60 - 22 for _ in range(2))
    found = Resampling(interpolation(rows, reflect), interpolation(columns, reflect))(x)
    y, x_ = (((source + 0.5) * 2 / size - 1) for source in (rows, columns))
    grid = torch.stack(torch.broadcast_tensors(x_[:, None, :], y[:, :, None]), dim=-1)
    padding = "reflection" if reflect else "zeros"
    torch.testing.assert_close(
        found, F.grid_sample(x, grid, padding_mode=padding, align_corners=False), rtol=0, atol=1e-12
    )


def blits(x: Tensor, most: int) -> list[Tensor]:
    """Each image mirrored, turned and moved in every way, reflected outside: [16 or more, C, R, R]."""
    turned = [torch.rot90(y, k, (-2, -1)) for y in (x, x.flip(-1)) for k in range(4)]
    found = []
    for y in turned:
        wide = torch.cat((y.flip(-1), y, y.flip(-1)), -1)
        wide = torch.cat((wide.flip(-2), wide, wide.flip(-2)), -2)
        size = y.shape[-1]
        for down, right in itertools.product(range(-most, most + 1), repeat=2):
            found.append(wide[:, size - down : 2 * size - down, size - right : 2 * size - right])
    return found


def test_blits_move_whole_pixels_and_each_way_occurs() -> None:
    """With p = 1 each of the eight symmetries of a square is as frequent as the others."""
    x = images(1, 8)[:1].expand(2000, -1, -1, -1)
    made = augmenter(ada("flip", "turn", "translation", most=1), 1).augmentation(
        Purpose.AUGMENT_FAKE, torch.arange(2000), x
    )
    ways = torch.stack(blits(x[0], 1))
    distances = (made(x)[:, None] - ways[None]).abs().amax((2, 3, 4))
    nearest, way = distances.min(1)
    assert float(nearest.max()) == 0  # to the bit
    counts = torch.bincount(way // 9, minlength=8)
    assert int(counts.min()) > 250 - 4 * 15
    assert int(counts.max()) < 250 + 4 * 15
    moves = torch.bincount(way % 9, minlength=9)
    assert int(moves.min()) > 222 - 4 * 14


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("name", ALL)
def test_each_transform_acts_with_probability_p(name: Any, p: float) -> None:
    """A flip, a turn or a move may also leave an image as it is: half, a quarter, a ninth of the times."""
    positions = torch.arange(4000)
    x = images(3, 8)[:1].expand(4000, -1, -1, -1)
    made = augmenter(ada(name), p).augmentation(Purpose.AUGMENT_G, positions, x)
    changed = float((made(x) != x).flatten(1).any(1).double().mean())
    stays = {"flip": 1 / 2, "turn": 1 / 4, "translation": 1 / 9}.get(name, 0)
    if name == "color":  # five of them; luma flips stay half of the time
        expected = 1 - (1 - p) ** 4 * (1 - p / 2)
    elif name == "scale":  # three
        expected = 1 - (1 - p) ** 3
    else:
        expected = p * (1 - stays)
    assert changed == pytest.approx(expected, abs=4 * 0.008 if p else 0)


def test_colours_are_rotations_flips_and_scalings_about_the_grey_axis() -> None:
    """Grey stays grey under hue and saturation; a turn by 120 degrees makes red green; half a turn twice is nothing."""
    third, half = hue_rotation(torch.tensor([2 * torch.pi / 3, torch.pi], dtype=torch.float64))
    torch.testing.assert_close(third @ torch.tensor([1.0, 0, 0]).double(), torch.tensor([0.0, 1, 0]).double())
    torch.testing.assert_close(half @ half, torch.eye(3).double())
    x = images(1).expand(-1, 3, -1, -1)
    seen = chosen(ada("color"), x, 1)(x)
    torch.testing.assert_close(seen, seen[:, :1].expand_as(seen), rtol=0, atol=1e-12)
    grey = chosen(ada("color"), x[:, :1], 1)(x[:, :1])
    torch.testing.assert_close(grey, seen[:, :1], rtol=0, atol=1e-12)  # as an RGB image of the same values
    coloured = images()
    assert float((chosen(ada("color"), coloured, 1)(coloured).std(1)).mean()) > 0.1
    about = Contrast(torch.full((24,), 3.0, dtype=torch.float64))(coloured)
    torch.testing.assert_close(about.mean((1, 2, 3)), coloured.mean((1, 2, 3)))
    shifted = ColorMap(torch.eye(3).double().expand(24, 3, 3), torch.ones(24, 3).double())
    torch.testing.assert_close(shifted(coloured), coloured + 1)


def test_normal_numbers_are_normal_and_whole_numbers_uniform() -> None:
    draws = Draws(SEED, Purpose.AUGMENT_REAL, torch.arange(20_000), torch.float64)
    z, whole = draws.normal(2.0), draws.integer(-1, 2)
    assert float(z.mean()) == pytest.approx(0, abs=4 * 2 / 141)
    assert float(z.std()) == pytest.approx(2, abs=0.05)
    assert float((z.abs() < 2).double().mean()) == pytest.approx(0.6827, abs=0.014)
    assert [int((whole == k).sum()) for k in range(-1, 3)] == pytest.approx([5000] * 4, abs=250)


def test_what_is_drawn_depends_on_purpose_and_position_alone() -> None:
    x = images()
    for config in KINDS:
        made = augmenter(config)
        whole = made.augmentation(Purpose.AUGMENT_REAL, POSITIONS, x)(x)
        rows = torch.tensor([7, 3])
        part = made.augmentation(Purpose.AUGMENT_REAL, POSITIONS[rows], x[rows])(x[rows])
        torch.testing.assert_close(part, whole[rows], rtol=0, atol=1e-14)
        other = made.augmentation(Purpose.AUGMENT_FAKE, POSITIONS, x)(x)
        assert float((other - whole).abs().mean()) > 0.1


def test_nothing_is_done_without_a_config() -> None:
    off, x = Augmenter(None, SEED, ALONE, torch.float64), images()
    nothing = off.augmentation(Purpose.AUGMENT_REAL, POSITIONS, x)
    assert nothing(x) is x
    assert nothing.along(x) is x
    assert nothing.back(x) is x
    assert not off.names
    assert not off.state


def test_p_follows_how_sure_d_is_of_the_reals() -> None:
    """It moves every second iteration, by the images since, and stays between 0 and its largest value."""
    config = ada("flip", target=0.6, kimg=0.1, interval=2, most=0.5)
    made = augmenter(config, 0)
    used = []
    for r in (1, 1, 1, 0.1, 0.7, 0.7, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0):
        terms = Terms(sure_of_reals=torch.tensor(r, dtype=torch.float64))
        made.step(terms, 10)
        used.append(round(float(terms["augment_p"]), 9))
    assert used == [0, 0, 0.2, 0.2, 0, 0, 0.2, 0.2, 0.4, 0.4, 0.2, 0.2, 0, 0, 0, 0, 0, 0]
    half = augmenter(config, 0.45)
    for _ in range(2):
        half.step(Terms(sure_of_reals=torch.ones((), dtype=torch.float64)), 10)
    assert float(half.state["augment.p"]) == 0.5


def test_how_sure_d_is_counts_signs() -> None:
    made, logits = augmenter(KINDS[1]), torch.tensor([3.0, -1, 0.1, 0.2])
    assert float(made.metrics(logits, None)["sure_of_reals"]) == 0.5
    assert float(made.metrics(logits, torch.tensor([4.0, 0, 1, 1]))["sure_of_reals"]) == -1
    assert augmenter(KINDS[0]).metrics(logits, None) == {}
