"""The engine of a strategy's name."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from trainer.config.sections import Strategy
from trainer.distributed.world import World

from .base import Engine, MakeOptimizer
from .ddp import Replicated


def engine(
    strategy: Strategy,
    name: str,
    network: nn.Module,
    make_optimizer: MakeOptimizer,
    world: World,
    frozen: Collection[str] = (),
) -> Engine:
    """Put a network, which stands on its device, under a strategy. frozen: parameters that never change, by name."""
    if strategy == "ddp":
        return Replicated(name, network, make_optimizer, world, frozen)
    network = network.to(memory_format=torch.contiguous_format)  # FSDP2 refuses others, DeepSpeed makes them so
    if strategy == "fsdp2":
        from .fsdp2 import FullyShard

        return FullyShard(name, network, make_optimizer, world, frozen)
    from .zero import Zero  # DeepSpeed is an optional dependency

    return Zero(name, network, make_optimizer, world, strategy, frozen)
