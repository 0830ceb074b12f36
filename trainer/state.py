"""The one registry of what changes between steps, as whole named tensors: what a checkpoint holds, and all of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class State:
    """Networks, optimizers and tensors under canonical names.

    Names: `<network>.<parameter>`, `optimizer.<network>.<state>.<parameter>` and plain ones such as `images_seen`.
    """

    def __init__(self) -> None:
        self._modules: dict[str, nn.Module] = {}
        self._optimizers: dict[str, tuple[Optimizer, nn.Module]] = {}
        self._tensors: dict[str, Tensor] = {}

    def add_module(self, name: str, module: nn.Module) -> None:
        self._modules[name] = module

    def add_optimizer(self, name: str, optimizer: Optimizer, module: nn.Module) -> None:
        """Register a network's optimizer; its state exists from now on, so every checkpoint has the same keys."""
        materialise(optimizer)
        self._optimizers[name] = (optimizer, module)

    def add_tensor(self, name: str, tensor: Tensor) -> None:
        self._tensors[name] = tensor

    def tensors(self) -> dict[str, Tensor]:
        """Every registered tensor by name; they share storage with what trains, so loading writes into them."""
        out = dict(self._tensors)
        for name, module in self._modules.items():
            out |= {f"{name}.{key}": t.detach() for key, t in module.state_dict().items()}
        for name, (optimizer, module) in self._optimizers.items():
            for key, parameter in module.named_parameters():
                for kind, value in optimizer.state[parameter].items():
                    out[f"optimizer.{name}.{kind}.{key}"] = value
        return out


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
