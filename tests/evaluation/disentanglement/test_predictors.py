"""DCI, SAP and modularity against closed forms and brute force."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from evaluation.disentanglement.dci import dci, spread
from evaluation.disentanglement.labelled_codes import LabelledCodes
from evaluation.disentanglement.linear_r2 import linear_r2
from evaluation.disentanglement.modularity import modularity, modularity_of
from evaluation.disentanglement.sap import sap

SIZES = (3, 4, 5)


def factors(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(size, size=count) for size in SIZES], 1)


def perfect(count: int, seed: int) -> LabelledCodes:
    found = factors(count, seed)
    return LabelledCodes(found.astype(float), found)


def rotated(count: int, seed: int) -> LabelledCodes:
    """The factors, of one spread, turned by a matrix that mixes all of them."""
    found = factors(count, seed)
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    return LabelledCodes((found - found.mean(0)) / found.std(0) @ turn, found)


def noise(count: int, seed: int) -> LabelledCodes:
    return LabelledCodes(np.random.default_rng(seed + 9).normal(size=(count, 6)), factors(count, seed))


def test_dci_of_the_factors_themselves_of_noise_and_of_a_rotation() -> None:
    found = dci(perfect(600, 0), perfect(300, 1), trees=10)
    assert found == pytest.approx((1, 1, 1), abs=1e-3)
    found = dci(noise(600, 0), noise(300, 1), trees=10)
    assert found.disentanglement < 0.1
    assert found.completeness < 0.1
    assert found.informativeness == pytest.approx(np.mean([1 / size for size in SIZES]), abs=0.06)
    found = dci(rotated(600, 0), rotated(300, 1), trees=10)
    assert found.disentanglement < 0.7
    assert found.informativeness > 0.6


def test_linear_r2_of_ordered_and_circular_factors() -> None:
    """A turn of all factors is linear; of an angle the cosine and sine are, the angle itself is not."""
    ordered = ("ordered",) * 3
    assert linear_r2(rotated(600, 0), rotated(300, 1), SIZES, ordered) == pytest.approx([1, 1, 1], abs=0.02)
    assert max(linear_r2(noise(600, 0), noise(300, 1), SIZES, ordered)) < 0.05
    rng = np.random.default_rng(0)
    angles = rng.integers(12, size=(900, 1))
    circle = 2 * np.pi * angles / 12
    codes = np.concatenate((3 * np.cos(circle) - 1, np.sin(circle) + 2 * np.cos(circle)), 1)
    train, test = LabelledCodes(codes[:600], angles[:600]), LabelledCodes(codes[600:], angles[600:])
    assert linear_r2(train, test, (12,), ("circular",)) == pytest.approx([1], abs=1e-9)
    (as_ordered,) = linear_r2(train, test, (12,), ("ordered",))
    assert as_ordered < 0.7
    half = codes.copy()
    half[:, 1] = rng.normal(size=900)  # the cosine alone is left
    train, test = LabelledCodes(half[:600], angles[:600]), LabelledCodes(half[600:], angles[600:])
    assert linear_r2(train, test, (12,), ("circular",)) == pytest.approx([0.5], abs=0.02)
    assert linear_r2(rotated(60, 0), rotated(30, 1), SIZES, ("classes", "ordered", "classes"))[0::2] == [None, None]


def test_the_spread_of_importances_is_that_of_the_definition() -> None:
    importance = np.random.default_rng(0).random((4, 3))

    def score(rows: list[list[float]]) -> float:
        total = sum(map(sum, rows))
        weighted = 0.0
        for row in rows:
            shares = [value / sum(row) for value in row]
            entropy = -sum(p * math.log(p, len(row)) for p in shares)
            weighted += sum(row) / total * (1 - entropy)
        return weighted

    expected = score(importance.tolist()), score(importance.T.tolist())
    assert spread(importance) == pytest.approx(expected, rel=1e-6)
    assert spread(np.ones((4, 3))) == pytest.approx((0, 0), abs=1e-9)
    assert spread(np.eye(3)) == pytest.approx((1, 1), abs=1e-8)
    assert spread(np.zeros((4, 3))) == (0, 0)


def test_sap_of_two_classes_each_in_one_latent() -> None:
    """A latent alone tells its own factor perfectly, another by chance."""
    rng = np.random.default_rng(0)

    def some(count: int) -> LabelledCodes:
        found = rng.integers(2, size=(count, 3))
        return LabelledCodes(2.0 * found - 1, found)

    score, accuracy = sap(some(2000), some(2000))
    assert np.diag(accuracy) == pytest.approx(1)
    assert accuracy[~np.eye(3, dtype=bool)] == pytest.approx(0.5, abs=0.05)
    assert score == pytest.approx(0.5, abs=0.05)
    twice = LabelledCodes(np.repeat(some(500).codes, 2, axis=1), factors(500, 0))
    assert sap(twice, twice)[0] == pytest.approx(0, abs=1e-9)  # a twin is the runner-up
    assert sap(noise(1000, 0), noise(1000, 1))[0] < 0.05


def test_modularity() -> None:
    assert modularity(perfect(20_000, 0)) == pytest.approx(1, abs=1e-3)
    assert modularity_of(np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0]])) == pytest.approx((1 - 1 / 8 + 1) / 2)
    assert modularity_of(np.ones((2, 3))) == 0
    assert modularity_of(np.array([[1.0, 0.0], [0.0, 0.0]])) == 0.5  # a latent that tells nothing
    assert modularity(rotated(5000, 0)) < 0.99


def test_modularity_and_sap_equal_plain_versions() -> None:
    """Modularity by dictionaries of counts; SAP by the best threshold rule that a linear machine on one latent is."""
    data = rotated(800, 0)
    n, told = 800, []
    for code in data.codes.T.tolist():
        low, high = min(code), max(code)
        z = [min(int((x - low) / (high - low) * 20), 19) for x in code]
        squares = []
        for v in data.factors.T.tolist():
            pairs, of_z, of_v = Counter(zip(z, v, strict=True)), Counter(z), Counter(v)
            squares.append(sum(c / n * math.log(c * n / (of_z[a] * of_v[b])) for (a, b), c in pairs.items()) ** 2)
        told.append(1 - (sum(squares) - max(squares)) / (max(squares) * (len(SIZES) - 1)))
    assert modularity(data) == pytest.approx(sum(told) / 3, abs=1e-9)

    rng = np.random.default_rng(2)
    factors = rng.integers(2, size=(4000, 2))
    code = np.stack([factors[:, 0] + 0.5 * rng.normal(size=4000), factors[:, 1] + 0.9 * rng.normal(size=4000)], 1)
    both = LabelledCodes(code, factors)
    score, accuracy = sap(both, both)
    for k, sigma in enumerate((0.5, 0.9)):  # two normals of means 0 and 1: the middle splits them best
        assert accuracy[k, k] == pytest.approx(0.5 * (1 + math.erf(0.5 / sigma / math.sqrt(2))), abs=0.02)
    assert score == pytest.approx(
        np.mean([accuracy[0, 0] - accuracy[1, 0], accuracy[1, 1] - accuracy[0, 1]]), abs=1e-12
    )
