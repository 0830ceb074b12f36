"""MIG and FVM against closed forms, scikit-free brute force, and each other's definitions."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from data_shards.sources.sprites.renderer import COUNT, FACTOR_SIZES, classes, factors_of
from evaluation.disentanglement.factor_vae import FVM_PROTOCOLS, FvmProtocol, fvm
from evaluation.disentanglement.labelled_codes import random_factors
from evaluation.disentanglement.mig import MIG_SAMPLES, mig
from evaluation.disentanglement.mutual_information import bins, mutual_information

Array = Any


def perfect(index: Array) -> Array:
    """A code equal to the factors' class indices."""
    return classes(index).astype(float)


def noise(index: Array) -> Array:
    return np.random.default_rng(len(index)).normal(size=(len(index), 10))


def test_a_code_equal_to_the_class_indices() -> None:
    rng = np.random.default_rng(0)
    factors = random_factors(rng, 200_000, FACTOR_SIZES)
    score, _ = mig(factors.astype(float), factors)
    exact = []
    for size in FACTOR_SIZES:  # the code's bins against the factor: the entropy of the binned factor
        values = np.arange(size)
        shares = Counter(bins(values.astype(float)).tolist())
        exact.append(-sum(n / size * math.log(n / size) for n in shares.values()) / math.log(size))
    assert score == pytest.approx(np.mean(exact), abs=2e-3)  # the runner-up's information vanishes with N
    few = random_factors(rng, MIG_SAMPLES, FACTOR_SIZES)
    assert mig(few.astype(float), few)[0] == pytest.approx(0.896, abs=3e-3)
    for name in ("paper", "short"):
        found = fvm(perfect, FACTOR_SIZES, FVM_PROTOCOLS[name], np.random.default_rng(1))
        assert found["train_accuracy"] == 1
        assert found["pruned"] == []


def test_factor_values_lose_scale_to_pruning() -> None:
    def values(index: Array) -> Array:
        f = factors_of(classes(index))
        return np.stack([f.shape, f.scale, f.theta, f.x, f.y], 1).astype(float)

    found = fvm(values, FACTOR_SIZES, FVM_PROTOCOLS["short"], np.random.default_rng(0))
    assert found["pruned"] == [1]
    assert found["train_accuracy"] == pytest.approx(0.80, abs=0.04)


def test_independent_noise() -> None:
    rng = np.random.default_rng(0)
    factors = random_factors(rng, 10_000, FACTOR_SIZES)
    score, _ = mig(rng.normal(size=(10_000, 10)), factors)
    assert score < 0.01
    found = fvm(noise, FACTOR_SIZES, FVM_PROTOCOLS["short"], np.random.default_rng(0))
    assert 0.2 < found["train_accuracy"] < 0.32


def test_a_code_with_x_and_y_rotated_by_45_degrees() -> None:
    """Both latents of the pair know as much of x as of y: no gap in MIG for either, and a coin's vote in FVM."""

    def rotated(index: Array) -> Array:
        code = perfect(index)
        x, y = code[:, 3], code[:, 4]
        return np.stack([*code.T[:3], (x + y) / math.sqrt(2), (x - y) / math.sqrt(2)], 1)

    index = np.random.default_rng(0).integers(COUNT, size=50_000)
    score, table = mig(rotated(index), classes(index))
    straight = mig(perfect(index), classes(index))[1]
    assert table[3, 3] == pytest.approx(table[3, 4], abs=0.01)
    assert score == pytest.approx(np.trace(straight[:3, :3]) / 5, abs=0.01)
    found = fvm(rotated, FACTOR_SIZES, FVM_PROTOCOLS["short"], np.random.default_rng(0))
    assert found["train_accuracy"] == pytest.approx((3 + 2 * 0.5) / 5, abs=0.05)


def test_mig_equals_a_brute_force_version() -> None:
    """By dictionaries of counts, on a code that mixes factors."""
    rng = np.random.default_rng(8)
    factors = np.stack([rng.integers(size, size=600) for size in (3, 4, 6)], 1)
    codes = factors @ rng.normal(size=(3, 4)) + 0.3 * rng.normal(size=(600, 4))
    found, table = mig(codes, factors)

    def entropy(values: list[Any]) -> float:
        return -sum(n / 600 * math.log(n / 600) for n in Counter(values).values())

    gaps = []
    for k in range(3):
        v, ratios = factors[:, k].tolist(), []
        for j in range(4):
            low, high = min(codes[:, j]), max(codes[:, j])
            z = [min(int((x - low) / (high - low) * 20), 19) for x in codes[:, j]]
            ratios.append((entropy(z) + entropy(v) - entropy(list(zip(z, v, strict=True)))) / entropy(v))
        assert table[k] == pytest.approx(ratios, abs=1e-9)
        second, first = sorted(ratios)[-2:]
        gaps.append(first - second)
    assert found == pytest.approx(sum(gaps) / 3, abs=1e-9)


def test_no_active_latent_scores_zero_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    found = fvm(lambda i: np.zeros((len(i), 4)), FACTOR_SIZES, FVM_PROTOCOLS["dlib"], np.random.default_rng(0))
    assert found == {"train_accuracy": 0.0, "eval_accuracy": 0.0, "pruned": [0, 1, 2, 3]}
    assert "no active latent" in caplog.text


def test_mutual_information_equals_a_loop_over_counts() -> None:
    rng = np.random.default_rng(3)
    a = rng.integers(5, size=800)
    b = (a + rng.integers(3, size=800)) % 7
    n = len(a)
    expected = 0.0
    for (x, y), count in Counter(zip(a.tolist(), b.tolist(), strict=True)).items():
        expected += count / n * math.log(count * n / ((a == x).sum() * (b == y).sum()))
    assert mutual_information(a, b) == pytest.approx(expected, rel=1e-12)


def test_bins_are_disentanglement_libs() -> None:
    code = np.random.default_rng(0).normal(size=500)
    low, high = code.min(), code.max()
    expected = np.minimum(((code - low) / (high - low) * 20).astype(int), 19) + 1
    assert (bins(code) == expected).mean() > 0.995  # a value on an edge may round either way


def test_fvm_equals_a_brute_force_version() -> None:
    """The same votes counted by a plain loop, on a code that mixes factors."""
    mix = np.random.default_rng(5).normal(size=(5, 6)) / np.array(FACTOR_SIZES)[:, None]

    def represent(index: Array) -> Array:
        return classes(index) @ mix

    protocol = FvmProtocol(2_000, 0.0, 32, 300, 200)
    found = fvm(represent, FACTOR_SIZES, protocol, np.random.default_rng(9))

    rng = np.random.default_rng(9)
    draw = lambda n: np.stack([rng.integers(size, size=n) for size in FACTOR_SIZES], 1)  # noqa: E731
    scale = (draw(2_000) @ mix).var(0, ddof=1)
    tables = []
    for votes in (300, 200):
        fixed = rng.integers(5, size=votes)
        factors = draw(votes * 32).reshape(votes, 32, 5)
        table = Counter()
        for k, batch in zip(fixed, factors, strict=True):
            batch[:, k] = batch[0, k]
            table[int(k), int(((batch @ mix).var(0, ddof=1) / scale).argmin())] += 1
        tables.append(table)
    majority = {j: max(range(5), key=lambda k: tables[0][k, j]) for j in range(6)}
    for table, votes, key in ((tables[0], 300, "train_accuracy"), (tables[1], 200, "eval_accuracy")):
        assert found[key] == pytest.approx(sum(table[majority[j], j] for j in range(6)) / votes)


def test_the_index_covers_the_grid() -> None:
    index = np.arange(0, COUNT, 997)
    from data_shards.sources.sprites.renderer import index_of

    assert (index_of(classes(index)) == index).all()
