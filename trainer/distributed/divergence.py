"""Compare what all processes must hold bit for bit alike. Errors of memory or network show here first."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from common.errors import UserError

from .world import World

_PRIME = 2_147_483_647
SHOWN = 5


class Diverged(UserError):
    """The processes hold different networks. The run stops; nothing after the last comparison is published."""


def fingerprints(tensors: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """Hash each tensor's bits: int64 [N] on the device. One changed bit, or two swapped values, change the hash."""
    return torch.stack([_fingerprint(t.detach()).to(device) for t in tensors.values()])


def _fingerprint(tensor: Tensor) -> Tensor:
    """Sum words times odd weights, modulo 2^64."""
    words = tensor.contiguous().flatten().view(torch.int32 if tensor.element_size() == 4 else torch.uint8)
    weights = torch.arange(words.numel(), device=words.device, dtype=torch.int64) * (2 * _PRIME) + 1
    return (words.to(torch.int64) * weights).sum()


def check(tensors: Mapping[str, Tensor], world: World) -> None:
    """Raise Diverged on every process if any holds other bits than another, with the names of the tensors."""
    if world.size == 1 or not tensors:
        return
    lowest, highest = world.all_reduce_extremes(fingerprints(tensors, world.device))
    differ = [name for name, same in zip(tensors, (lowest == highest).tolist(), strict=True) if not same]
    if differ:
        more = f" and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        raise Diverged(f"the processes hold different values of {', '.join(differ[:SHOWN])}{more}")
