"""The Frechet distance against scipy's matrix square root and a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from evaluation.fid.frechet import Moments, distance


def moments(x: np.ndarray, block: int = 64) -> Moments:
    m = Moments.empty(x.shape[1])
    for start in range(0, len(x), block):
        m.add(torch.from_numpy(x[start : start + block]))
    return m


@pytest.mark.parametrize("samples", [500, 12])  # 12 < 20 dimensions: the covariance is singular
def test_it_equals_the_definition_with_scipys_root(samples: int) -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(20, 20))
    a, b = rng.normal(size=(samples, 20)) @ mix, rng.normal(0.5, 2, size=(samples, 20))
    sa, sb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(sa @ sb).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sa + sb - 2 * root)
    assert distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-5)


def test_it_does_not_depend_on_blocks_and_is_zero_for_equal_sets() -> None:
    x = np.random.default_rng(1).normal(size=(300, 8))
    assert distance(moments(x, 7), moments(x, 300)) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(moments(x, 7).covariance, np.cov(x, rowvar=False), rtol=1e-12, atol=1e-14)


def test_diagonal_gaussians_have_a_closed_form() -> None:
    a, b = Moments(2, np.zeros(3), np.diag([4.0, 9, 1])), Moments(2, np.array([2.0, 4, 6]), np.zeros((3, 3)))
    b.outer = np.diag([1.0, 1, 16]) + 2 * np.outer(b.mean, b.mean)
    expected = (1 + 4 + 9) + (2 - 1) ** 2 + (3 - 1) ** 2 + (1 - 4) ** 2
    assert distance(a, b) == pytest.approx(expected)
