"""R^2 of factors by a linear regression on the means of q(c|x): what the code holds of a factor in the plainest way.

Ordered factors only: a circular one is regressed as its cosine and sine, and its R^2 is the mean of both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.arrays import Float64, Int64

from .encoding import FactorKind
from .labelled_codes import LabelledCodes


def linear_r2(
    train: LabelledCodes, test: LabelledCodes, sizes: Sequence[int], kinds: Sequence[FactorKind]
) -> list[float | None]:
    """Return R^2 on `test` of each factor, None of those without an order. sizes: classes of each factor."""
    found: list[float | None] = []
    for factor, (size, kind) in enumerate(zip(sizes, kinds, strict=True)):
        if kind == "classes":
            found.append(None)
            continue
        targets = (_values(codes.factors[:, factor], size, kind) for codes in (train, test))
        seen, truth = targets
        predicted = _with_one(test.codes) @ np.linalg.lstsq(_with_one(train.codes), seen, rcond=None)[0]
        found.append(float(np.mean([r_squared(*pair) for pair in zip(truth.T, predicted.T, strict=True)])))
    return found


def _values(classes: Int64, size: int, kind: FactorKind) -> Float64:
    """Return what is regressed [N, 1 or 2]: the class, or the cosine and sine of its place on the circle."""
    if kind == "ordered":
        return classes[:, None].astype(np.float64)
    angle = 2 * np.pi * classes / (size - 1 if kind == "closed" else size)
    return np.stack((np.cos(angle), np.sin(angle)), 1)


def _with_one(codes: Float64) -> Float64:
    return np.concatenate((codes, np.ones((len(codes), 1))), 1)


def r_squared(truth: Float64, predicted: Float64) -> float:
    """Return 1 - residual / total sum of squares: 1 is exact, 0 as good as the mean, below 0 worse. Both: [N]."""
    return float(1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
