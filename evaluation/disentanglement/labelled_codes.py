"""Codes of images drawn at random from the grid of all factor combinations, with the true factors of these images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.arrays import Float64, Int64

from .encoding import Represent


class LabelledCodes(NamedTuple):
    """codes: [N, c]; factors: classes [N, F]."""

    codes: Float64
    factors: Int64


class PredictorProtocol(NamedTuple):
    """How DCI and SAP are measured.

    train, test: images that predictors learn from and are tested on; trees: boosted trees of each class of a factor.
    """

    train: int
    test: int
    trees: int


PREDICTOR_PROTOCOLS = {"dlib": PredictorProtocol(10_000, 5_000, 100), "short": PredictorProtocol(1_000, 500, 10)}


def random_factors(rng: np.random.Generator, count: int, sizes: Sequence[int]) -> Int64:
    """Draw factor classes [N, F], uniform. sizes: number of classes of each factor."""
    return np.stack([rng.integers(size, size=count) for size in sizes], 1)


def places(classes: Int64, sizes: Sequence[int]) -> Int64:
    """Return the places [N] of factor classes [N, F] in the grid of all combinations, the last factor the fastest."""
    return np.asarray(np.ravel_multi_index(tuple(classes.T), tuple(sizes)), np.int64)


def draw(represent: Represent, sizes: Sequence[int], count: int, rng: np.random.Generator) -> LabelledCodes:
    """Draw `count` images uniformly from the grid of factors and represent them."""
    factors = random_factors(rng, count, sizes)
    return LabelledCodes(represent(places(factors, sizes)), factors)
