"""The replicated strategy: every process holds a whole network, gradients are averaged once per optimizer step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainer.distributed.world import World

from .base import MakeOptimizer, Named, blueprint, materialise, named


class Replicated:
    """Parameters and optimizer state are whole tensors on every process.

    DistributedDataParallel raises on parameters that take no part in a step, and a step may freeze and unfreeze a
    network; one coalesced all-reduce has no such trouble and leaves every backward pass alone.
    """

    def __init__(self, name: str, network: nn.Module, make_optimizer: MakeOptimizer, world: World) -> None:
        self.name, self.network, self.blueprint, self.world = name, network, blueprint(network), world
        self.optimizer = make_optimizer(network)
        materialise(self.optimizer)  # every checkpoint has the same names
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

    def freeze(self) -> None:
        self.network.requires_grad_(False)

    def unfreeze(self) -> None:
        self.network.requires_grad_(True)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self) -> Tensor:
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        if self.world.size > 1:
            flat = torch.cat([g.flatten() for g in gradients])
            pieces = self.world.all_reduce_mean_(flat).split([g.numel() for g in gradients])
            gradients = [piece.view_as(g) for piece, g in zip(pieces, gradients, strict=True)]
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def shards(self) -> Named:
        return {key: p.detach() for key, p in self.network.named_parameters()}

    def full_tensors(self, shards: Mapping[str, Tensor]) -> Named:
        return dict(shards)

    def saved(self, shards: Mapping[str, Tensor]) -> Named:
        return dict(shards)

    @torch.no_grad()
    def load_shards(self, shards: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
        for key, shard in shards.items():
            shard.copy_(saved[key])

    def replicated(self) -> Named:
        return self.state_dict()

    def state_dict(self) -> Named:
        states: dict[str, Named] = {}
        for key, parameter in self.network.named_parameters():
            for kind, value in self.optimizer.state[parameter].items():
                states.setdefault(kind, {})[key] = value
        return named(self.name, self.shards(), states)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        self.load_shards(self.state_dict(), tensors)
