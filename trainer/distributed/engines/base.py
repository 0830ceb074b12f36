"""What a strategy promises of a network that it trains, however it splits it over the processes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Named = dict[str, Tensor]
MakeOptimizer = Callable[[nn.Module], Optimizer]


class Engine(Protocol):
    """A network with its optimizer. network: called as it is without one; blueprint: a plain one on the meta device.

    A shard is what this process holds of a parameter: all of it, a DTensor, or a piece. All processes call `step`,
    `full_tensors`, `state_dict` and `load_state_dict` together.
    """

    name: str
    network: nn.Module
    blueprint: nn.Module
    optimizer: Optimizer

    def freeze(self) -> None:
        """No gradients for the parameters until `unfreeze`; they still pass through to the input."""
        ...

    def unfreeze(self) -> None: ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of this process's loss; it goes backward through other engines' networks too."""
        ...

    def step(self) -> Tensor:
        """Average the gradients over the processes, step, and forget them; a parameter without one has gradient zero.

        Returns the norm of the averaged gradient, a 0-dim tensor on the device.
        """
        ...

    def shards(self) -> Named:
        """By the parameter's name; they share storage with what trains."""
        ...

    def full_tensors(self, shards: Mapping[str, Tensor]) -> Named:
        """The whole tensors of shards that are laid out as those of `shards`, on every process."""
        ...

    def saved(self, shards: Mapping[str, Tensor]) -> Named:
        """What a checkpoint takes of such shards: whole tensors or DTensors."""
        ...

    def load_shards(self, shards: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
        """Write what `saved` gave into shards."""
        ...

    def replicated(self) -> Named:
        """What every process must hold alike, bit for bit, under a checkpoint's names; nothing where all is split."""
        ...

    def state_dict(self) -> Named:
        """What a checkpoint holds of network and optimizer: NAME.PARAMETER and optimizer.NAME.STATE.PARAMETER."""
        ...

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state_dict` gave, here or under another strategy or number of processes."""
        ...


def blueprint(network: nn.Module) -> nn.Module:
    """A frozen copy without values: parameters on the meta device. Cheap, whatever the network's size."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False) for p in network.parameters()}
    return copy.deepcopy(network, empty).eval()


def filled(blueprint: nn.Module, whole: Mapping[str, Tensor]) -> nn.Module:
    """A plain frozen network with these parameters, which are not copied."""
    network = copy.deepcopy(blueprint)
    network.load_state_dict(dict(whole), assign=True)
    return network.requires_grad_(False)


def named(engine: str, parameters: Mapping[str, Tensor], states: Mapping[str, Mapping[str, Tensor]]) -> Named:
    """Under a checkpoint's names. states: of the optimizer, by kind and then by parameter."""
    found = {f"{engine}.{key}": tensor for key, tensor in parameters.items()}
    for kind, of in states.items():
        found |= {f"optimizer.{engine}.{kind}.{key}": tensor for key, tensor in of.items()}
    return found


def set_learning_rate(engine: Engine, rate: float) -> None:
    """The learning rate of the next steps."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def materialise(optimizer: Optimizer) -> None:
    """Give every parameter its optimizer state, zero, without moving it (an optimizer makes it at its first step)."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()
