"""The interface of a strategy: a network with its optimizer, however they are split over the processes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Named = dict[str, Tensor]
MakeOptimizer = Callable[[nn.Module], Optimizer]


class Engine(Protocol):
    """A network with its optimizer.

    network: called as it would be without a strategy; blueprint: the network without values. A shard is what this
    process holds of a parameter: all of it, a DTensor, or a piece. adds_gradients: parameters are whole, and what is
    added to their grad counts as what `backward` adds. All processes call `step`, `full_tensors`, `state_dict` and
    `load_state_dict` together.
    """

    name: str
    network: nn.Module
    blueprint: nn.Module
    optimizer: Optimizer
    adds_gradients: bool

    def freeze(self) -> None:
        """Compute no gradients of the parameters until `unfreeze`; those of the input still pass through."""
        ...

    def unfreeze(self) -> None:
        """Compute gradients of the parameters again, but for those that never change."""
        ...

    def backward(self, loss: Tensor, last: bool = False) -> None:
        """Add the gradients of this process's loss, also to the networks of other engines that it depends on.

        last: nothing else adds to this network's gradients before `step`, so that they may be sent meanwhile.
        """
        ...

    def step(self) -> Tensor:
        """Average the gradients over the processes, step and clear them. A parameter without one has gradient zero.

        Returns the norm of the averaged gradient, a 0-dim tensor on the device.
        """
        ...

    def shards(self) -> Named:
        """Return the shards by the parameters' names. They share storage with what is trained."""
        ...

    def full_tensors(self, shards: Mapping[str, Tensor]) -> Named:
        """Return the whole tensors of shards that are laid out as those of `shards`, on every process."""
        ...

    def saved(self, shards: Mapping[str, Tensor]) -> Named:
        """Return what a checkpoint takes of such shards: whole tensors or DTensors."""
        ...

    def load_shards(self, shards: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
        """Write what `saved` returned into shards."""
        ...

    def replicated(self) -> Named:
        """What every process must hold alike bit for bit, as a checkpoint names it; nothing where all is split."""
        ...

    def state_dict(self) -> Named:
        """Return a checkpoint's tensors of network and optimizer: NAME.PARAMETER and optimizer.NAME.STATE.PARAMETER."""
        ...

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state_dict` returned, under this or another strategy or number of processes."""
        ...


def blueprint(network: nn.Module) -> nn.Module:
    """Return a frozen copy without values: parameters on the meta device, which take no memory."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False) for p in network.parameters()}
    return copy.deepcopy(network, empty).eval()


def filled(blueprint: nn.Module, parameters: Mapping[str, Tensor]) -> nn.Module:
    """Return a frozen network of a blueprint with these parameters, which are not copied."""
    network = copy.deepcopy(blueprint)
    network.load_state_dict(dict(parameters), assign=True)
    return network.requires_grad_(False)


def named(engine: str, parameters: Mapping[str, Tensor], states: Mapping[str, Mapping[str, Tensor]]) -> Named:
    """Name tensors as a checkpoint does. states: of the optimizer, by kind and then by parameter."""
    tensors = {f"{engine}.{key}": tensor for key, tensor in parameters.items()}
    for kind, state in states.items():
        tensors |= {f"optimizer.{engine}.{kind}.{key}": tensor for key, tensor in state.items()}
    return tensors


def unfreeze_but(network: nn.Module, frozen: Iterable[nn.Parameter]) -> None:
    """Let all parameters of a network require gradients, but for the frozen ones."""
    network.requires_grad_(True)
    for parameter in frozen:
        parameter.requires_grad_(False)


def set_learning_rate(engine: Engine, learning_rate: float) -> None:
    """Set the learning rate of the next steps."""
    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate


def materialise(optimizer: Optimizer) -> None:
    """Make the state of an optimizer, all zeros, which it otherwise makes at its first step; parameters do not change.

    So every checkpoint has the same names.
    """
    learning_rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, learning_rate in zip(optimizer.param_groups, learning_rates, strict=True):
        group["lr"] = learning_rate
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()
