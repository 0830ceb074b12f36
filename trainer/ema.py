"""Averages of the generator's weights over the run: what every sample and metric uses.

How much of an average an iteration keeps, beta, is a pure function of its setting, the clock and the batch size, so a
resume needs no more than the averages themselves.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .config_parts import AverageConfig, DecayAverage, HalfLifeAverage


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
    """What the average keeps of itself, in [0, 1]. images_seen: the clock after the iteration; batch_size: global.

    Power function: (1 - batch_size / images_seen)^(gamma + 1), so the first step copies, and by telescoping the weights
    after the iteration from a to b images count as the integral of the profile from a to b, exactly.
    """
    if isinstance(average, DecayAverage):
        return average.decay
    if isinstance(average, HalfLifeAverage):
        return math.pow(0.5, batch_size / (1000 * average.half_life_kimg))
    return math.pow(1 - batch_size / images_seen, gamma(average.sigma_rel) + 1)


def clone(network: nn.Module) -> nn.Module:
    """A frozen copy to average into."""
    return copy.deepcopy(network).eval().requires_grad_(False)


class Averages:
    """Averages of one network's parameters, by name in the order of the settings.

    A parameter that has not moved yet equals its averages bit for bit: lerp between equal values gives that value. So
    the blocks of a stage to come are copied by all of them.
    """

    def __init__(self, network: nn.Module, settings: Sequence[AverageConfig]) -> None:
        self.network, self.settings = network, {average.name: average for average in settings}
        self.networks = {name: clone(network) for name in self.settings}

    @property
    def first(self) -> nn.Module:
        """The one that samples and metrics use."""
        return next(iter(self.networks.values()))

    @torch.no_grad()
    def update(self, images_seen: int, batch_size: int) -> None:
        """average <- beta * average + (1 - beta) * network, once per iteration. images_seen: the clock after it."""
        weights: list[Tensor] = list(self.network.parameters())
        for name, average in self.networks.items():
            kept = beta(self.settings[name], images_seen, batch_size)
            parameters: list[Tensor] = list(average.parameters())
            torch._foreach_lerp_(parameters, weights, 1 - kept)
