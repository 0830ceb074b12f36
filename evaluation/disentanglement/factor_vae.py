"""FVM, the FactorVAE metric: which factor is held fixed, guessed from the latent that varies least.

Sources: Kim and Mnih, "Disentangling by Factorising" (2018); appendix C.1 of the ID-GAN paper; Locatello et al.,
"Challenging common assumptions" (disentanglement_lib).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.arrays import Float64, Int64
from common.errors import UserError
from evaluation.inputs.choices import FvmProtocolName

from .encoding import Represent
from .labelled_codes import places, random_factors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FvmProtocol:
    """Settings of the metric.

    variance_samples: images behind the global variance, None for the whole set; prune_variance: latents of a smaller
    global variance are left out; batch: images behind a vote; train_votes: votes that the classifier is made of;
    eval_votes: votes that it is tested on, 0 for none.
    """

    variance_samples: int | None
    prune_variance: float
    batch: int
    train_votes: int
    eval_votes: int


FVM_PROTOCOLS: dict[FvmProtocolName, FvmProtocol] = {
    "paper": FvmProtocol(None, 0.05, 100, 800, 0),
    "dlib": FvmProtocol(10_000, 0.05**2, 64, 10_000, 5_000),  # disentanglement_lib prunes by standard deviation
    "short": FvmProtocol(10_000, 0.05, 64, 800, 0),
    "faces": FvmProtocol(50_000, 0.05, 100, 800, 0),  # the paper's, except a global variance over fewer images
    "faces-short": FvmProtocol(10_000, 0.05, 64, 200, 0),
}

# Of data sets with continuous factors, which no set holds all combinations of; the others are of full grids.
CONTINUOUS: tuple[FvmProtocolName, ...] = ("faces", "faces-short")
SHORT: tuple[FvmProtocolName, ...] = ("short", "faces-short")


def protocol_for(continuous: bool, requested: FvmProtocolName | None, short: bool) -> FvmProtocolName:
    """Return the protocol of a data set: the requested one, else the full or the short one.

    continuous: whether it has continuous factors. Raises UserError where the requested one is for other data sets.
    """
    mine = CONTINUOUS if continuous else tuple(name for name in FVM_PROTOCOLS if name not in CONTINUOUS)
    if requested is None:
        return next(name for name in mine if (name in SHORT) == short)
    if requested not in mine:
        raise UserError(f"--protocol: {requested} is for other data sets; choose from {', '.join(mine)}")
    return requested


@dataclass(frozen=True)
class _Voting:
    """What all votes share. variance: global variance of each latent [c]; active: bool [c], latents that may win."""

    represent: Represent
    sizes: Sequence[int]
    batch: int
    variance: Float64
    active: NDArray[np.bool_]


def fvm(represent: Represent, sizes: Sequence[int], protocol: FvmProtocol, rng: np.random.Generator) -> dict[str, Any]:
    """Return the accuracy of a majority vote: which factor is fixed, given the latent that varies least.

    sizes: number of classes of each factor. Returns `train_accuracy` and `eval_accuracy` in [0, 1], the latter None
    without `eval_votes`, and `pruned`, the indices of latents that are left out.
    """
    variance = _global_variance(represent, sizes, protocol.variance_samples, rng)
    active = variance >= protocol.prune_variance
    pruned = np.flatnonzero(~active).tolist()
    if not active.any():
        log.warning("warning: no active latent (all variances are below %g): FVM is 0", protocol.prune_variance)
        return {"train_accuracy": 0.0, "eval_accuracy": 0.0 if protocol.eval_votes else None, "pruned": pruned}
    voting = _Voting(represent, sizes, protocol.batch, variance, active)
    train = _votes(voting, protocol.train_votes, rng)
    majority = train.argmax(0)
    eval_accuracy = None
    if protocol.eval_votes:
        eval_accuracy = _accuracy(_votes(voting, protocol.eval_votes, rng), majority)
    return {"train_accuracy": _accuracy(train, majority), "eval_accuracy": eval_accuracy, "pruned": pruned}


def _global_variance(
    represent: Represent, sizes: Sequence[int], samples: int | None, rng: np.random.Generator
) -> Float64:
    """Return the variance of each latent [c] over the whole set (samples None), or estimated from random images."""
    if samples is None:
        return represent(np.arange(math.prod(sizes))).var(0, ddof=0)
    return represent(places(random_factors(rng, samples, sizes), sizes)).var(0, ddof=1)


def _accuracy(votes: Int64, majority: Int64) -> float:
    """Return the share of votes [F, c] that fall on the majority's factor of their latent [c]."""
    return float(votes[majority, np.arange(votes.shape[1])].sum() / votes.sum())


def _votes(voting: _Voting, count: int, rng: np.random.Generator) -> Int64:
    """Count how often each pair (fixed factor, least varying latent) came up in `count` votes: [F, c]."""
    sizes, batch = voting.sizes, voting.batch
    fixed = rng.integers(len(sizes), size=count)
    factors = random_factors(rng, count * batch, sizes).reshape(count, batch, -1)
    rows = np.arange(count)
    factors[rows, :, fixed] = factors[rows, :1, fixed]
    codes = voting.represent(places(factors.reshape(count * batch, -1), sizes)).reshape(count, batch, -1)
    relative = codes.var(1, ddof=1) / np.maximum(voting.variance, 1e-300)
    least = np.where(voting.active, relative, np.inf).argmin(1)
    table = np.zeros((len(sizes), len(voting.variance)), np.int64)
    np.add.at(table, (fixed, least), 1)
    return table
