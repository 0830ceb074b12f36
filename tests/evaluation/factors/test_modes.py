"""Mode coverage: counts and divergences by hand, and classes read from images whose classes are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from data_shards.sources.sprites.stacked import CLASSES, draw, draw_classes
from evaluation.factors import modes
from evaluation.factors.factor_network import load_factor_extractor
from tests.support.data_sets import Made
from tests.support.evaluating import answer, evaluate, refused
from tests.support.training import CONFIGS, finish, train

EXTRACTOR = load_factor_extractor()


def images(index: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(draw(index, 64)).permute(0, 3, 1, 2).contiguous()


def test_modes_are_counted_and_images_of_no_class_count_for_none() -> None:
    classes = np.array([[0, 0, 0], [0, 0, 0], [1, 2, 3], [3, 2, 1], [-1, 2, 3], [9, 9, -1]])
    found = modes.coverage(classes)
    assert (found.modes, found.of_a_mode) == (3, 4 / 6)
    expected = 0.5 * math.log(0.5 * 1000) + 2 * 0.25 * math.log(0.25 * 1000)
    assert found.kl == pytest.approx(expected)


def test_all_modes_alike_have_no_divergence_and_no_mode_has_none_to_tell() -> None:
    everything = np.stack(np.unravel_index(np.arange(1000), (10, 10, 10)), 1)
    assert modes.coverage(everything) == (1000, pytest.approx(0, abs=1e-12), 1)
    assert modes.coverage(np.full((4, 3), -1)) == (0, None, 0)


def test_what_uniform_draws_cover_is_what_is_expected_of_them() -> None:
    rng = np.random.default_rng(0)
    draws = [modes.coverage(rng.integers(0, 10, (2000, 3))) for _ in range(40)]
    assert np.mean([found.modes for found in draws]) == pytest.approx(modes.expected_modes(2000), abs=3)
    many = [modes.coverage(rng.integers(0, 10, (25_600, 3))).kl for _ in range(20)]
    assert np.mean(np.array(many, float)) == pytest.approx(modes.expected_kl(25_600), rel=0.03)


def test_real_images_are_read_as_their_classes() -> None:
    index = np.arange(300)
    found, drawn = modes.classes_of(images(index), EXTRACTOR), draw_classes(index)
    assert (found == drawn).mean() > 0.98
    assert ((found == drawn) | (found == -1)).all(), "what is not read is of no class, not of another one"
    assert set(found[found >= 0]) == set(range(len(CLASSES)))


def test_images_without_clean_sprites_are_of_no_class() -> None:
    clean = images(np.arange(64))
    shifted = clean.roll(6, -1)
    two = clean.maximum(clean.flip(0))
    blurred = torch.nn.functional.avg_pool2d(clean.float(), 17, 1, 8).to(torch.uint8)
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, clean.shape, np.uint8))
    for spoilt, share in ((shifted, 0.05), (two, 0.3), (blurred, 0.1), (noise, 0), (torch.zeros_like(clean), 0)):
        assert (modes.classes_of(spoilt, EXTRACTOR) >= 0).mean() <= share


def test_the_command_counts_a_runs_modes_and_refuses_other_data(systems: dict[str, Path], tmp_path: Path) -> None:
    made = Made(tmp_path / "stacked", "stacked", "--count", 64)
    config = str(CONFIGS.parent / "stacked" / "gan.yaml")
    run, more = tmp_path / "run", {"objective": "relativistic", "r2": 1}
    finish(train("gan", made.root, run, 1, config, **more))
    found = answer(evaluate(tmp_path / "a", "modes", run, "--samples", 200))["kinds"]
    assert found["reals"]["of_a_mode"] > 0.9
    assert 40 < found["reals"]["modes"] <= 64
    assert found["gan"]["modes"] == 0
    other = evaluate(tmp_path / "b", "modes", systems["gan"], code=2)
    refused(other, "trained on dsprites, which has no modes to count", "make stacked")
