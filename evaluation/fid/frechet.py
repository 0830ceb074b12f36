"""The Frechet distance between two sets of features (Heusel et al., 2017), in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from common.arrays import Float64


@dataclass
class Moments:
    """Count, sum and sum of outer products: all that the distance needs, and they add up over blocks and processes."""

    count: int
    total: Float64
    outer: Float64

    @classmethod
    def empty(cls, dim: int) -> Moments:
        """Return the moments of no features."""
        return cls(0, np.zeros(dim), np.zeros((dim, dim)))

    def add(self, features: Tensor) -> None:
        """Add features [B, dim]."""
        x = features.double().cpu().numpy()
        self.count += len(x)
        self.total += x.sum(0)
        self.outer += x.T @ x

    @property
    def mean(self) -> Float64:
        """Mean of the features: [dim]."""
        return self.total / self.count

    @property
    def covariance(self) -> Float64:
        """Covariance of the features, with the divisor N - 1: [dim, dim]."""
        mean = self.mean
        return (self.outer - self.count * np.outer(mean, mean)) / (self.count - 1)


def distance(a: Moments, b: Moments) -> float:
    """Return |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)).

    The trace of (S_a S_b)^(1/2) is computed as that of (sqrt(S_a) S_b sqrt(S_a))^(1/2), whose matrix is symmetric.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root @ b.covariance @ root
    trace_of_root = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0)).sum()
    gap = a.mean - b.mean
    return float(gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * trace_of_root)
