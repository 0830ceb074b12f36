"""The replicated strategy: every process holds a whole network, gradients are averaged once per optimizer step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..world import World


class Replicated:
    """A network with its optimizer.

    DistributedDataParallel raises on parameters that take no part in a step, and a step may freeze and unfreeze a
    network; one coalesced all-reduce has no such trouble and leaves every backward pass alone.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, world: World) -> None:
        self.network, self.optimizer, self.world = network, optimizer, world
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def freeze(self) -> None:
        """No gradients for the parameters until `unfreeze`; they still pass through to the input."""
        self.network.requires_grad_(False)

    def unfreeze(self) -> None:
        self.network.requires_grad_(True)

    def step(self) -> Tensor:
        """Average the gradients over the processes and step; a parameter without one has gradient zero.

        Returns the norm of the averaged gradient, a 0-dim tensor on the device.
        """
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        if self.world.size > 1:
            flat = torch.cat([g.flatten() for g in gradients])
            pieces = self.world.mean(flat).split([g.numel() for g in gradients])
            gradients = [piece.view_as(g) for piece, g in zip(pieces, gradients, strict=True)]
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm
