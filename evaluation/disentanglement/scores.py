"""MIG and the FactorVAE metric (FVM). A representation maps images, by their places in the grid of factors, to codes.

Sources: appendix C.1 of the ID-GAN paper; Locatello et al., "Challenging common assumptions" (disentanglement_lib).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .encoding import Represent

Float = NDArray[np.float64]
Int = NDArray[np.int64]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FvmProtocol:
    """variance_samples: images behind the global variance, None for the whole set; prune below this variance."""

    variance_samples: int | None
    prune_variance: float
    batch: int
    train_votes: int
    eval_votes: int


Protocol = Literal["paper", "dlib", "short"]
FVM_PROTOCOLS: dict[Protocol, FvmProtocol] = {
    "paper": FvmProtocol(None, 0.05, 100, 800, 0),
    "dlib": FvmProtocol(10_000, 0.05**2, 64, 10_000, 5_000),  # disentanglement_lib prunes by standard deviation
    "short": FvmProtocol(10_000, 0.05, 64, 800, 0),
}
MIG_SAMPLES, MIG_BINS = 10_000, 20


def mutual_information(a: Int, b: Int) -> float:
    """In nats, from counts. a, b: classes [N]."""
    joint = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(joint, (a, b), 1)
    p = joint / joint.sum()
    outer = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / outer[seen])).sum())


def bins(code: Float, count: int = MIG_BINS) -> Int:
    """A latent's values in equal-width bins over its own range: classes [N] from 1."""
    edges = np.histogram(code, count)[1]
    return np.digitize(code, edges[:-1])


def mig(codes: Float, factors: Int) -> tuple[float, Float]:
    """Mean over factors of (largest - runner-up mutual information) / entropy. codes: [N, c]; factors: [N, F].

    Returns (MIG, normalised mutual information [F, c]). The appendix prints "min" for the runner-up.
    """
    latents = [bins(codes[:, j]) for j in range(codes.shape[1])]
    information = np.array([[mutual_information(z, v) for z in latents] for v in factors.T])
    entropy = np.array([mutual_information(v, v) for v in factors.T])
    ordered = np.sort(information, axis=1)
    second = ordered[:, -2] if information.shape[1] > 1 else 0.0
    return float(((ordered[:, -1] - second) / entropy).mean()), information / entropy[:, None]


def random_factors(rng: np.random.Generator, count: int, sizes: Sequence[int]) -> Int:
    """Factor classes [N, F], uniform."""
    return np.stack([rng.integers(size, size=count) for size in sizes], 1)


def places(classes: Int, sizes: Sequence[int]) -> Int:
    """Of factor classes [N, F] in the grid of all combinations, the last factor the fastest."""
    return np.asarray(np.ravel_multi_index(tuple(classes.T), tuple(sizes)), np.int64)


def fvm(represent: Represent, sizes: Sequence[int], protocol: FvmProtocol, rng: np.random.Generator) -> dict[str, Any]:
    """Accuracy of the majority vote "which factor is fixed, given the latent that varies least".

    sizes: of the factors.
    """
    samples = protocol.variance_samples
    whole = samples is None
    index = np.arange(math.prod(sizes)) if samples is None else places(random_factors(rng, samples, sizes), sizes)
    variance = represent(index).var(0, ddof=0 if whole else 1)
    active = variance >= protocol.prune_variance
    pruned = np.flatnonzero(~active).tolist()
    if not active.any():
        log.warning("warning: no active latent (all variances are below %g): FVM is 0", protocol.prune_variance)
        return {
            "train_accuracy": 0.0,
            "eval_accuracy": 0.0 if protocol.eval_votes else None,
            "pruned": pruned,
        }
    train = _votes(represent, sizes, protocol.train_votes, protocol.batch, variance, active, rng)
    majority = train.argmax(0)
    held_out = None
    if protocol.eval_votes:
        others = _votes(represent, sizes, protocol.eval_votes, protocol.batch, variance, active, rng)
        held_out = _accuracy(others, majority)
    return {"train_accuracy": _accuracy(train, majority), "eval_accuracy": held_out, "pruned": pruned}


def _accuracy(votes: Int, majority: Int) -> float:
    return float(votes[majority, np.arange(votes.shape[1])].sum() / votes.sum())


def _votes(
    represent: Represent,
    sizes: Sequence[int],
    count: int,
    batch: int,
    variance: Float,
    active: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Int:
    """How often each (fixed factor, least varying latent) came up: [F, c]."""
    fixed = rng.integers(len(sizes), size=count)
    factors = random_factors(rng, count * batch, sizes).reshape(count, batch, -1)
    rows = np.arange(count)
    factors[rows, :, fixed] = factors[rows, :1, fixed]
    codes = represent(places(factors.reshape(count * batch, -1), sizes)).reshape(count, batch, -1)
    ratio = np.where(active, codes.var(1, ddof=1) / np.maximum(variance, 1e-300), np.inf)
    table = np.zeros((len(sizes), len(variance)), np.int64)
    np.add.at(table, (fixed, ratio.argmin(1)), 1)
    return table
