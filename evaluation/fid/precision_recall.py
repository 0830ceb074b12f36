"""Precision, recall, density and coverage of generated images, from nearest neighbours in feature space.

Sources: Kynkaanniemi et al., "Improved Precision and Recall Metric" (2019); Naeem et al., "Reliable Fidelity and
Diversity Metrics" (2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

K = 5
ROWS = 1024  # images whose distances to all others are in memory at once


@dataclass(frozen=True)
class Reach:
    """The four numbers, each in [0, 1] except density, which may be above 1.

    precision: generated images within the reach of a real one (its K-th nearest real neighbour); recall: reals within
    the reach of a generated one; density: reals that reach a generated image, over K; coverage: reals that have a
    generated image within their reach.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def reach(reals: Tensor, generated: Tensor, k: int = K) -> Reach:
    """Measure generated features [M, dim] against real ones [N, dim], each of more than k images."""
    of_reals, of_generated = radii(reals, k), radii(generated, k)
    reaching = torch.zeros(len(generated), dtype=torch.int64)  # reals, for each generated image
    recalled = covered = 0
    for rows, distances in _blocks(reals, generated):
        inside = distances <= of_reals[rows, None]
        reaching += inside.sum(0)
        covered += int(inside.any(1).sum())
        recalled += int((distances <= of_generated).any(1).sum())
    precise, n = float((reaching > 0).double().mean()), len(reals)
    return Reach(precise, recalled / n, float(reaching.double().mean()) / k, covered / n)


def radii(features: Tensor, k: int = K) -> Tensor:
    """Return the distance of each row to its k-th nearest other row: [N]. An equal row is another one too."""
    blocks = [distances.kthvalue(k + 1).values for _, distances in _blocks(features, features)]  # the first is itself
    return torch.cat(blocks)


def _blocks(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield the distances of a's rows to all of b, in blocks: (rows, [rows, M])."""
    for start in range(0, len(a), ROWS):
        rows = slice(start, min(start + ROWS, len(a)))
        yield rows, torch.cdist(a[rows], b)
