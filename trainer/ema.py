"""Exponential moving average of the generator's weights: what every sample and metric uses."""

from __future__ import annotations

import copy

import torch
from torch import nn


def clone(network: nn.Module) -> nn.Module:
    """A frozen copy to average into."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * network, for every parameter, once per iteration."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
