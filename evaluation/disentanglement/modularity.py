"""Modularity: whether each latent holds information about one factor only.

Source: Ridgeway and Mozer, "Learning Deep Disentangled Embeddings" (2018), with the settings of Locatello et al.
(disentanglement_lib).
"""

from __future__ import annotations

import numpy as np

from common.arrays import Float64

from .labelled_codes import LabelledCodes
from .mutual_information import information_matrix


def modularity(data: LabelledCodes) -> float:
    """Return the modularity of codes in [0, 1], 1 is best; see `modularity_of`. Latents are put into 20 bins."""
    return modularity_of(information_matrix(data.codes, data.factors))


def modularity_of(information: Float64) -> float:
    """Return the mean over latents of 1 - (information about the other factors) / (F - 1) / (about its own factor).

    information: mutual information [c, F], which is squared. A latent's own factor is the one that it knows most of. A
    latent without information about any factor counts 0.
    """
    squared = information**2
    own = squared.max(1)
    others = squared.sum(1) - own
    informative = own > 0
    score = np.zeros(len(own))
    score[informative] = 1 - others[informative] / (own[informative] * (information.shape[1] - 1))
    return float(score.mean())
