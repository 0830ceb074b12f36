"""Mutual information between the binned values of a latent and the classes of a factor, for MIG and modularity."""

from __future__ import annotations

import numpy as np

from common.arrays import Float64, Int64

BINS = 20  # of a latent, as in disentanglement_lib


def bins(code: Float64, count: int = BINS) -> Int64:
    """Put the values of one latent into equal-width bins over its own range. Returns classes [N] from 1."""
    edges = np.histogram(code, count)[1]
    return np.digitize(code, edges[:-1])


def mutual_information(a: Int64, b: Int64) -> float:
    """Return the mutual information of two discrete variables in nats, from counts. a, b: classes [N], from 0."""
    joint = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(joint, (a, b), 1)
    p = joint / joint.sum()
    independent = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    positive = p > 0
    return float((p[positive] * np.log(p[positive] / independent[positive])).sum())


def information_matrix(codes: Float64, factors: Int64) -> Float64:
    """Return the mutual information of latents and factors: [c, F]. codes: [N, c]; factors: classes [N, F]."""
    latents = [bins(code) for code in codes.T]
    return np.array([[mutual_information(latent, factor) for factor in factors.T] for latent in latents])
