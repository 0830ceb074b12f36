"""The strategy ddp: every process holds a whole network; gradients are averaged once per optimizer step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from trainer.distributed.world import World

from .base import MakeOptimizer, Named, blueprint, materialise, named, unfreeze_but
from .gradient_buckets import GradientBuckets


class Replicated:
    """Parameters and optimizer state are whole tensors on every process.

    Gradients are averaged while the last backward pass of a step goes on (gradient_buckets.py). torch's
    DistributedDataParallel is not used: it raises where parameters take no part in a step, and hooks into backward
    passes of networks that a step freezes.
    """

    adds_gradients = True

    def __init__(
        self,
        name: str,
        network: nn.Module,
        make_optimizer: MakeOptimizer,
        world: World,
        frozen: Collection[str] = (),
    ) -> None:
        self.name, self.network, self.blueprint, self.world = name, network, blueprint(network), world
        self.optimizer = make_optimizer(network)
        materialise(self.optimizer)
        self.trained = [p for key, p in network.named_parameters() if key not in frozen]
        self.frozen = [p for key, p in network.named_parameters() if key in frozen]
        self.buckets = GradientBuckets(self.trained, world) if self.adds_gradients and world.size > 1 else None

    def freeze(self) -> None:
        """Compute no gradients of the parameters until `unfreeze`."""
        self.network.requires_grad_(False)

    def unfreeze(self) -> None:
        """Compute gradients of the parameters again."""
        unfreeze_but(self.network, self.frozen)

    def backward(self, loss: Tensor, last: bool = False) -> None:
        """Add the gradients of this process's loss. last: nothing else adds to them before `step`."""
        with self.buckets.last_pass(loss) if last and self.buckets else nullcontext():
            loss.backward()

    @record_function("optimizer step")
    def step(self) -> Tensor:
        """Average the gradients over the processes, step, clear them, and return the norm of the average."""
        if self.buckets:
            self.buckets.average_()
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.trained]
        for parameter, gradient in zip(self.trained, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def shards(self) -> Named:
        """Return the parameters, which are whole."""
        return {key: p.detach() for key, p in self.network.named_parameters()}

    def full_tensors(self, shards: Mapping[str, Tensor]) -> Named:
        """Return the shards, which are whole."""
        return dict(shards)

    def saved(self, shards: Mapping[str, Tensor]) -> Named:
        """Return the shards, which are whole."""
        return dict(shards)

    @torch.no_grad()
    def load_shards(self, shards: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
        """Write what `saved` returned into shards."""
        for key, shard in shards.items():
            shard.copy_(saved[key])

    def replicated(self) -> Named:
        """Return everything."""
        return self.state_dict()

    def state_dict(self) -> Named:
        """Return a checkpoint's tensors of network and optimizer."""
        states: dict[str, Named] = {}
        for key, parameter in self.network.named_parameters():
            for kind, value in self.optimizer.state[parameter].items():
                states.setdefault(kind, {})[key] = value
        return named(self.name, self.shards(), states)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state_dict` returned."""
        self.load_shards(self.state_dict(), tensors)
