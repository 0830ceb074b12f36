"""The strategy fsdp2, PyTorch's fully_shard: each process holds a part of each parameter, gradient and state."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.profiler import record_function

from models.resnet import ResBlock
from trainer.distributed.world import World

from .base import MakeOptimizer, Named
from .ddp import Replicated


class FullyShard(Replicated):
    """Parameters and optimizer state are DTensors. A ResBlock's parameters are gathered only while it computes.

    fully_shard averages the gradients in every backward pass.
    """

    adds_gradients = False

    def __init__(
        self,
        name: str,
        network: nn.Module,
        make_optimizer: MakeOptimizer,
        world: World,
        frozen: Collection[str] = (),
    ) -> None:
        def sharding(network: nn.Module) -> torch.optim.Optimizer:
            mesh = init_device_mesh(world.device.type, (world.size,))
            for block in [part for part in network.modules() if isinstance(part, ResBlock)]:
                fully_shard(block, mesh=mesh)
            fully_shard(network, mesh=mesh)
            return make_optimizer(network)

        super().__init__(name, network, sharding, world, frozen)

    @record_function("optimizer step")
    def step(self) -> Tensor:
        """Step, clear the gradients, which are averaged already, and return their norm."""
        for parameter in self.trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.trained if p.grad is not None])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        assert isinstance(norm, DTensor)
        return norm.full_tensor()

    def replicated(self) -> Named:
        """Return nothing: everything is split."""
        return {}

    def full_tensors(self, shards: Mapping[str, Tensor]) -> Named:
        """Gather the whole tensors of shards."""
        return {key: shard.full_tensor() if isinstance(shard, DTensor) else shard for key, shard in shards.items()}
