"""Code alignment against generators whose R^2 is known: exact, mirrored, blind to the code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, linregress
from torch import Tensor, nn

from common.errors import UserError
from data_shards.sources.sprites.renderer import FACTOR_SIZES, Factors, classes, factors_of, render, render_factors
from evaluation.alignment.found_factors import alignment
from evaluation.alignment.sprite_sources import FACTORS, VALUES, accuracies, by_shape, sources
from evaluation.disentanglement.linear_r2 import r_squared
from evaluation.factors.factor_network import load_factor_extractor
from evaluation.inputs.run import Run
from trainer.config.schema import GanConfig

SAMPLES, SEED, S_DIM = 600, 3, 2
EXTRACTOR = load_factor_extractor()


def sprite_factors(c: Tensor) -> Factors:
    """A code that is the factors themselves: shape, scale, theta, x, y."""
    shape, scale, theta, x, y = c.double().numpy().T
    return Factors(shape.astype(np.int64), scale, theta, x, y)


class Oracle(nn.Module):
    """q that knows the sources: an image in [-1, 1] -> (its factors, zeros)."""

    def __init__(self) -> None:
        super().__init__()
        index = sources(SAMPLES, SEED)
        truth = np.stack(factors_of(classes(index)), 1).astype(np.float64)
        self.known = {image.tobytes(): code for image, code in zip(render(index), truth, strict=True)}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = torch.from_numpy(np.stack([self.known[image.tobytes()] for image in (x[:, 0] > 0).byte().numpy()]))
        return code, torch.zeros_like(code)


class Painter(nn.Module):
    """G([s, c]) draws the factors that `change` makes of c, in [-1, 1]."""

    def __init__(self, change: Any = lambda factors: factors) -> None:
        super().__init__()
        self.change = change

    def forward(self, latent: Tensor) -> Tensor:
        drawn = render_factors(self.change(sprite_factors(latent[:, S_DIM:])))
        return torch.from_numpy(drawn)[:, None].float() * 2 - 1


class Decoder(nn.Module):
    """A VAE whose decoding of the code is exact, in [0, 1]."""

    def decode(self, c: Tensor) -> Tensor:
        return torch.from_numpy(render_factors(sprite_factors(c)))[:, None].float()


def run_of(generator: nn.Module | None, vae: nn.Module | None = None, data_set: str = "dsprites") -> Run:
    """A run with the oracle as its encoder."""
    settings = {"data": {"path": "data"}, "schedule": {"total_kimg": 1}, "c_dim": 5, "s_dim": S_DIM}
    main = SimpleNamespace(manifest=SimpleNamespace(data_set=data_set))
    data: Any = SimpleNamespace(main=main, variant="plain", painting=None)
    config = GanConfig.model_validate(settings)
    oracle: Any = Oracle()
    shown: Any = vae
    return Run(Path("run"), Path("step"), {}, config, data, generator, None, oracle, shown, "an oracle", {})


def measured(generator: nn.Module | None, vae: nn.Module | None = None) -> dict[str, dict[str, Any]]:
    return alignment(run_of(generator, vae), EXTRACTOR, SAMPLES, SEED)


def test_r_squared_of_known_predictions() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(2, 3, size=1000)
    assert r_squared(truth, truth) == 1
    assert r_squared(truth, np.full_like(truth, truth.mean())) == 0
    assert r_squared(truth, truth + 0.7) == pytest.approx(1 - 0.7**2 / truth.var())
    assert r_squared(truth, 2 * truth.mean() - truth) == pytest.approx(-3), "the mirror image: residuals are doubled"
    found = truth + rng.normal(size=1000)
    line = linregress(found, truth)
    assert r_squared(truth, line.intercept + line.slope * found) == pytest.approx(line.rvalue**2)


def test_accuracies_count_nearest_classes_and_the_symmetry_of_shapes() -> None:
    truth = factors_of(classes(sources(2000, 0)))
    rng = np.random.default_rng(0)
    assert set(accuracies(truth, truth).values()) == {1.0}
    quarter, half = truth.theta + np.pi / 2, truth.theta - np.pi
    assert accuracies(truth, truth._replace(theta=quarter))["orientation"] == (truth.shape == 0).mean()
    assert accuracies(truth, truth._replace(theta=half))["orientation"] == (truth.shape < 2).mean()
    steps = {"x": (1 / 31, 32), "y": (1 / 31, 32), "scale": (0.1, 6), "theta": (2 * np.pi / 39, None)}
    for name, (step, size) in steps.items():
        values = getattr(truth, name) + rng.choice([-0.51, 0.49], 2000) * step
        found = accuracies(truth, truth._replace(**{name: values}))
        right = 0.5 + (0.5 / size if size else 0)  # below the lowest class there is none that is nearer
        assert found["orientation" if name == "theta" else name] == pytest.approx(right, abs=0.04)
        assert sorted(found.values())[1:] == [1.0] * 4
    other = truth._replace(shape=(truth.shape + 1) % 3)
    assert accuracies(truth, other)["shape"] == accuracies(truth, other)["orientation"] == 0


def test_sources_are_uniform_over_every_factor() -> None:
    found = classes(sources(20_000, 0))
    for j, size in enumerate(FACTOR_SIZES):
        assert chisquare(np.bincount(found[:, j], minlength=size)).pvalue > 1e-3
    pair = found[:, 3] * 32 + found[:, 4]
    assert chisquare(np.bincount(pair, minlength=1024)).pvalue > 1e-3


def test_a_source_is_a_function_of_seed_and_its_number() -> None:
    assert (sources(500, 7)[:20] == sources(20, 7)).all()
    assert (sources(500, 7) != sources(500, 8)).mean() > 0.99


def test_a_perfect_generator_scores_what_the_reals_score() -> None:
    found = measured(Painter(), Decoder())
    assert list(found) == ["reals", "vae", "gan"]
    assert found["gan"] == found["reals"] == found["vae"]
    assert list(found["reals"]) == [*VALUES, "shape", "accuracy", "faithful", "shapes"]
    assert min(found["reals"]["faithful"].values()) > 0.95
    assert found["reals"]["shapes"] == pytest.approx({"square": 1 / 3, "ellipse": 1 / 3, "heart": 1 / 3}, abs=0.06)
    assert list(found["reals"]["accuracy"]) == [*FACTORS]
    assert found["reals"]["accuracy"]["scale"] > 0.9
    assert min(found["reals"][name] for name in VALUES) > 0.9
    assert found["reals"]["shape"] > 0.99


def test_the_score_of_reals_is_that_of_all_images_at_once() -> None:
    index = sources(SAMPLES, SEED)
    truth, found = factors_of(classes(index)), measured(Painter())["reals"]
    seen = EXTRACTOR.extract(torch.from_numpy(render(index))[:, None] * 255)[1]
    for name in VALUES:
        known, guess = getattr(truth, name).astype(np.float64), getattr(seen, name).double().numpy()
        assert found[name] == pytest.approx(1 - np.mean((known - guess) ** 2) / known.var(), abs=1e-5)
    assert found["shape"] == np.mean(seen.shape.argmax(1).numpy() == truth.shape)


def test_a_run_of_stage_1_is_measured_by_its_decodings() -> None:
    found = alignment(run_of(None, Decoder()), EXTRACTOR, SAMPLES, SEED)
    assert list(found) == ["reals", "vae"]
    assert found["vae"] == found["reals"]


def test_a_generator_that_mirrors_x_loses_x_and_nothing_else() -> None:
    mirrored = measured(Painter(lambda f: f._replace(x=1 - f.x)))
    assert mirrored["gan"]["x"] == pytest.approx(-3, abs=0.1), "x against 1 - x: residuals are doubled"
    for name in ("y", "scale"):
        assert mirrored["gan"][name] == pytest.approx(mirrored["reals"][name], abs=0.05)
    assert mirrored["gan"]["shape"] > 0.98


def test_a_generator_that_draws_squares_only_keeps_the_positions() -> None:
    squares = measured(Painter(lambda f: f._replace(shape=np.zeros_like(f.shape))))["gan"]
    assert squares["shape"] == pytest.approx((classes(sources(SAMPLES, SEED))[:, 0] == 0).mean(), abs=0.01)
    assert squares["x"] > 0.95
    assert squares["y"] > 0.95


@pytest.mark.parametrize("what", ["one image for all", "any image"])
def test_a_generator_that_ignores_the_code_scores_nothing(what: str) -> None:
    def other(factors: Factors) -> Factors:
        count = len(factors.shape)
        if what == "any image":
            return factors_of(classes(sources(count, SEED + 1 + int(1e6 * factors.x[0]))))
        return factors_of(classes(np.full(count, 300_000)))

    found = measured(Painter(other))["gan"]
    assert max(found[name] for name in VALUES) <= 0.05
    assert found["shape"] == pytest.approx(1 / 3, abs=0.07)


def test_images_without_known_factors_are_refused() -> None:
    with pytest.raises(UserError, match="trained on photos, whose factors the factor network does not know"):
        alignment(run_of(Painter(), data_set="photos"), EXTRACTOR, 8, SEED)


def test_fidelity_is_counted_by_the_shape_of_the_source() -> None:
    truth, read = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 0])
    faithful = np.array([True, False, True, True, True, False])
    found = by_shape(truth, read, faithful)
    assert found["faithful"] == {"square": 0.5, "ellipse": 1.0, "heart": 0.0}
    assert found["shapes"] == pytest.approx({"square": 4 / 6, "ellipse": 2 / 6, "heart": 0})
