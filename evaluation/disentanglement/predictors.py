"""DCI, SAP and modularity: how factors are spread over the latents of a code, read off simple predictors and counts.

Sources: Eastwood and Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations" (2018);
Kumar et al., "Variational Inference of Disentangled Latent Concepts" (2018); Ridgeway and Mozer, "Learning Deep
Disentangled Embeddings" (2018); all with the settings of Locatello et al. (disentanglement_lib).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .scores import bins, mutual_information

Float = NDArray[np.float64]
Int = NDArray[np.int64]


class Protocol(NamedTuple):
    """Images that predictors learn from and are asked about; boosted trees of each class of a factor."""

    train: int
    test: int
    trees: int


PROTOCOLS = {"dlib": Protocol(10_000, 5_000, 100), "short": Protocol(1_000, 500, 10)}


class Labelled(NamedTuple):
    """codes: [N, c]; factors: classes [N, F]."""

    codes: Float
    factors: Int


class Dci(NamedTuple):
    """Each in [0, 1], 1 is best. disentanglement: a latent serves one factor; completeness: a factor has one latent;
    informativeness: held-out accuracy of predicting factors."""

    disentanglement: float
    completeness: float
    informativeness: float


def dci(train: Labelled, test: Labelled, trees: int, seed: int = 0) -> Dci:
    """From the importances that boosted trees give to latents, a classifier for each factor."""
    from sklearn.ensemble import GradientBoostingClassifier  # two seconds, for this alone

    importances, accuracies = [], []
    for known, asked in zip(train.factors.T, test.factors.T, strict=True):
        model = GradientBoostingClassifier(n_estimators=trees, random_state=seed).fit(train.codes, known)
        importances.append(model.feature_importances_)
        accuracies.append(float((model.predict(test.codes) == asked).mean()))
    return Dci(*spread(np.stack(importances, 1)), float(np.mean(accuracies)))


def spread(importance: Float) -> tuple[float, float]:
    """(disentanglement, completeness) of importances [c, F], at least 0: 1 - entropy of rows, and of columns, each
    weighted by its share of all importance."""
    return _concentration(importance), _concentration(importance.T)


def _concentration(rows: Float) -> float:
    total = rows.sum()
    if total == 0 or rows.shape[1] == 1:
        return float(total > 0)
    share = (rows + 1e-11) / (rows + 1e-11).sum(1, keepdims=True)
    entropy = -(share * np.log(share)).sum(1) / np.log(rows.shape[1])
    return float(((1 - entropy) * rows.sum(1)).sum() / total)


def sap(train: Labelled, test: Labelled, seed: int = 0) -> tuple[float, Float]:
    """Mean over factors of the gap between the two latents that predict it best. Returns (SAP, accuracies [c, F]).

    A linear support vector machine (C 0.01, classes weighted alike) sees one latent at a time.
    """
    from sklearn.svm import LinearSVC

    accuracy = np.zeros((train.codes.shape[1], train.factors.shape[1]))
    for j in range(accuracy.shape[0]):
        for k in range(accuracy.shape[1]):
            model = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
            model.fit(train.codes[:, [j]], train.factors[:, k])
            accuracy[j, k] = (model.predict(test.codes[:, [j]]) == test.factors[:, k]).mean()
    ordered = np.sort(accuracy, axis=0)
    second = ordered[-2] if len(ordered) > 1 else 0.0
    return float((ordered[-1] - second).mean()), accuracy


def modularity(data: Labelled) -> float:
    """Mean over latents of 1 - what a latent tells of other factors than its own, in squared mutual information
    (20 bins), over what it tells of its own. A latent that tells nothing counts 0."""
    latents = [bins(code) for code in data.codes.T]
    information = np.array([[mutual_information(z, v) for v in data.factors.T] for z in latents])
    return modularity_of(information)


def modularity_of(information: Float) -> float:
    """information: mutual information [c, F]."""
    squared = information**2
    best = squared.max(1)
    others = squared.sum(1) - best
    told = best > 0
    score = np.zeros(len(best))
    score[told] = 1 - others[told] / (best[told] * (information.shape[1] - 1))
    return float(score.mean())
