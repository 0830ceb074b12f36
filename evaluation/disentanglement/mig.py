"""MIG, the mutual information gap: how much more the best latent of a factor knows of it than the second best.

Sources: appendix C.1 of the ID-GAN paper; Chen et al., "Isolating Sources of Disentanglement in VAEs" (2018); settings
of Locatello et al., "Challenging common assumptions" (disentanglement_lib).
"""

from __future__ import annotations

import numpy as np

from common.arrays import Float64, Int64

from .mutual_information import information_matrix, mutual_information

MIG_SAMPLES = 10_000  # images


def mig(codes: Float64, factors: Int64) -> tuple[float, Float64]:
    """Return the mean over factors of (largest - runner-up mutual information) / entropy. [0, 1], 1 is best.

    codes: [N, c]; factors: classes [N, F]. Returns (MIG, mutual information / entropy [F, c]). The appendix prints
    "min" for the runner-up.
    """
    information = information_matrix(codes, factors).T
    entropy = np.array([mutual_information(factor, factor) for factor in factors.T])
    ordered = np.sort(information, axis=1)
    runner_up = ordered[:, -2] if information.shape[1] > 1 else 0.0
    gaps = (ordered[:, -1] - runner_up) / entropy
    return float(gaps.mean()), information / entropy[:, None]
