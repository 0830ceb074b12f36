"""KID: the kernel distance between two sets of features (Binkowski et al., "Demystifying MMD GANs", 2018)."""

from __future__ import annotations

import numpy as np

from common.arrays import Float64, Int64

SUBSETS, SUBSET_SIZE = 100, 1000


def kid(
    a: Float64, b: Float64, rng: np.random.Generator, subsets: int = SUBSETS, size: int = SUBSET_SIZE
) -> list[float]:
    """Return the squared distance of each of `subsets` pairs of random subsets. a, b: features [N, dim], [M, dim].

    size: of a subset, or as many as there are. The mean of the distances is KID. It has no bias, so it may be below 0.
    """
    size = min(size, len(a), len(b))
    return [squared_distance(a[_subset(rng, a, size)], b[_subset(rng, b, size)]) for _ in range(subsets)]


def squared_distance(a: Float64, b: Float64) -> float:
    """Return the unbiased estimate of MMD^2 under the cubic kernel (x . y / dim + 1)^3. a: [N, dim], b: [M, dim]."""
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (_kernel(a, a), _kernel(b, b))]
    return float(sum(within) - 2 * _kernel(a, b).mean())


def _kernel(a: Float64, b: Float64) -> Float64:
    return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)


def _subset(rng: np.random.Generator, features: Float64, size: int) -> Int64:
    """Choose the rows of a subset."""
    return rng.choice(len(features), size, replace=False)
