"""Averages of the generator's weights over the run: what every sample and metric uses.

The share of itself that an average keeps in an iteration, beta, is a pure function of its setting, the clock and the
batch size, so a resume needs the averages and nothing else.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import record_function

from trainer.config.sections import AverageConfig, DecayAverage, HalfLifeAverage
from trainer.distributed.engines.base import Engine, Named, filled


@functools.cache
def gamma(sigma_rel: float) -> float:
    """The exponent of the power-function profile of a relative width in (0, 0.28].

    The profile at t images is p(tau) = (gamma + 1) / t * (tau / t)^gamma. Its standard deviation is t * sigma_rel with
    sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)): a cubic, of which this is the largest real root (Karras et
    al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", post-hoc EMA).
    """
    s = sigma_rel
    roots = np.roots([1, 7 * s, 16 * s**2 - 1, 12 * s**3 - s])  # of gamma * s: no s, however small, overflows
    return float(max(root.real for root in roots if abs(root.imag) < 1e-9)) / s


def beta(average: AverageConfig, images_seen: int, batch_size: int) -> float:
    """Return the share of itself that an average keeps, in [0, 1].

    images_seen: the clock after the iteration; batch_size: global.

    Power function: (1 - batch_size / images_seen)^(gamma + 1), so the first step copies, and by telescoping the weights
    after the iteration from a to b images count as the integral of the profile from a to b, exactly.
    """
    if isinstance(average, DecayAverage):
        return average.decay
    if isinstance(average, HalfLifeAverage):
        return math.pow(0.5, batch_size / (1000 * average.half_life_kimg))
    return math.pow(1 - batch_size / images_seen, gamma(average.sigma_rel) + 1)


class Averages:
    """Averages of one network's parameters, by name in the order of the settings, split as its engine splits them.

    A parameter that has not moved yet equals its averages bit for bit, because lerp between equal values gives that
    value. So all averages hold the untrained weights of blocks that growth has not reached.
    """

    def __init__(self, engine: Engine, settings: Sequence[AverageConfig]) -> None:
        self.engine, self.settings = engine, {average.name: average for average in settings}
        self.shards = {name: {k: t.clone() for k, t in engine.shards().items()} for name in self.settings}

    def full_tensors(self, name: str) -> Named:
        """Return an average's weights, whole, on every process; all processes call it together."""
        return self.engine.full_tensors(self.shards[name])

    def network(self, name: str | None = None) -> nn.Module:
        """Return an average as a network; all processes call it together. The first makes samples and metrics."""
        return filled(self.engine.blueprint, self.full_tensors(name or next(iter(self.settings))))

    @record_function("EMA")
    @torch.no_grad()
    def update(self, images_seen: int, batch_size: int) -> None:
        """average <- beta * average + (1 - beta) * network, once per iteration. images_seen: the clock after it."""
        weights = list(self.engine.shards().values())
        for name, shards in self.shards.items():
            kept = beta(self.settings[name], images_seen, batch_size)
            torch._foreach_lerp_(list(shards.values()), weights, 1 - kept)

    def replicated(self) -> Named:
        """Return what every process must hold bit for bit alike: nothing where the engine splits the parameters."""
        return self.state_dict() if self.engine.replicated() else {}

    def state_dict(self) -> Named:
        """Return the tensors of a checkpoint, named ema.AVERAGE.PARAMETER."""
        tensors: Named = {}
        for name, shards in self.shards.items():
            tensors |= {f"ema.{name}.{key}": tensor for key, tensor in self.engine.saved(shards).items()}
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state_dict` returned."""
        for name, shards in self.shards.items():
            self.engine.load_shards(shards, {key: tensors[f"ema.{name}.{key}"] for key in shards})
