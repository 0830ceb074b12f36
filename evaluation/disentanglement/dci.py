"""DCI: disentanglement, completeness and informativeness, from the importance of latents to predictors of factors.

Source: Eastwood and Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations" (2018),
with the settings of Locatello et al. (disentanglement_lib).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from common.arrays import Float64

from .labelled_codes import LabelledCodes


class Dci(NamedTuple):
    """The three scores, each in [0, 1], 1 is best.

    disentanglement: each latent serves one factor; completeness: each factor is held by one latent; informativeness:
    held-out accuracy of predicting the factors.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def dci(train: LabelledCodes, test: LabelledCodes, trees: int, seed: int = 0) -> Dci:
    """Return DCI from boosted trees, one classifier a factor. trees: of each class of a factor."""
    from sklearn.ensemble import GradientBoostingClassifier  # takes two seconds to import

    importances, accuracies = [], []
    for train_classes, test_classes in zip(train.factors.T, test.factors.T, strict=True):
        model = GradientBoostingClassifier(n_estimators=trees, random_state=seed).fit(train.codes, train_classes)
        importances.append(model.feature_importances_)
        accuracies.append(float((model.predict(test.codes) == test_classes).mean()))
    return Dci(*spread(np.stack(importances, 1)), float(np.mean(accuracies)))


def spread(importance: Float64) -> tuple[float, float]:
    """Return (disentanglement, completeness) of importances [c, F], which are at least 0.

    They are 1 - entropy of the rows, and of the columns, each weighted by its share of all importance.
    """
    return _concentration(importance), _concentration(importance.T)


def _concentration(rows: Float64) -> float:
    """Return the mean of 1 - normalised entropy of the rows, weighted by their sums."""
    total = rows.sum()
    if total == 0 or rows.shape[1] == 1:
        return float(total > 0)
    share = (rows + 1e-11) / (rows + 1e-11).sum(1, keepdims=True)
    entropy = -(share * np.log(share)).sum(1) / np.log(rows.shape[1])
    return float(((1 - entropy) * rows.sum(1)).sum() / total)
