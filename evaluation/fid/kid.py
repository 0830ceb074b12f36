"""KID: the kernel distance between two sets of features (Binkowski et al., "Demystifying MMD GANs", 2018)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
SUBSETS, SUBSET_SIZE = 100, 1000


def kid(a: Float, b: Float, rng: np.random.Generator, subsets: int = SUBSETS, size: int = SUBSET_SIZE) -> list[float]:
    """The squared distance of each of `subsets` pairs of subsets, of `size` or as many as there are. a, b: [N, dim].

    Their mean is KID. It has no bias, so that it may be below 0.
    """
    size = min(size, len(a), len(b))
    return [squared_distance(a[_some(rng, a, size)], b[_some(rng, b, size)]) for _ in range(subsets)]


def squared_distance(a: Float, b: Float) -> float:
    """The unbiased estimate of MMD^2 under the cubic kernel (x . y / dim + 1)^3. a: [N, dim], b: [M, dim]."""
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (_kernel(a, a), _kernel(b, b))]
    return float(sum(within) - 2 * _kernel(a, b).mean())


def _kernel(a: Float, b: Float) -> Float:
    return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)


def _some(rng: np.random.Generator, of: Float, size: int) -> NDArray[np.int64]:
    return rng.choice(len(of), size, replace=False)
