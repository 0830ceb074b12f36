"""SAP, the separated attribute predictability: how much better the best latent predicts a factor than the second best.

Source: Kumar et al., "Variational Inference of Disentangled Latent Concepts" (2018), with the settings of Locatello et
al. (disentanglement_lib).
"""

from __future__ import annotations

import numpy as np

from common.arrays import Float64

from .labelled_codes import LabelledCodes


def sap(train: LabelledCodes, test: LabelledCodes, seed: int = 0) -> tuple[float, Float64]:
    """Return the mean over factors of the gap between the two latents that predict it best.

    A linear support vector machine (C 0.01, balanced class weights) sees one latent at a time. Returns (SAP, accuracies
    on `test` [c, F]).
    """
    accuracy = np.zeros((train.codes.shape[1], train.factors.shape[1]))
    for latent in range(accuracy.shape[0]):
        for factor in range(accuracy.shape[1]):
            accuracy[latent, factor] = _accuracy(train, test, latent, factor, seed)
    ordered = np.sort(accuracy, axis=0)
    runner_up = ordered[-2] if len(ordered) > 1 else 0.0
    return float((ordered[-1] - runner_up).mean()), accuracy


def _accuracy(train: LabelledCodes, test: LabelledCodes, latent: int, factor: int, seed: int) -> float:
    from sklearn.svm import LinearSVC  # takes two seconds to import

    model = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
    model.fit(train.codes[:, [latent]], train.factors[:, factor])
    return float((model.predict(test.codes[:, [latent]]) == test.factors[:, factor]).mean())
