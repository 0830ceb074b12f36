"""Whether the processes still hold the same bits, where they should: an error in memory or network shows here first."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from common.errors import UserError

from .world import World

_PRIME = 2_147_483_647
SHOWN = 5


class Diverged(UserError):
    """The processes train different networks by now: the run stops, and nothing after the last check is published."""


def fingerprints(tensors: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """A hash of each tensor's bits: int64 [N] on the device. One changed bit, or two swapped values, change it."""
    return torch.stack([_fingerprint(t.detach()).to(device) for t in tensors.values()])


def _fingerprint(tensor: Tensor) -> Tensor:
    """Sum of words times odd weights, modulo 2^64."""
    words = tensor.contiguous().flatten().view(torch.int32 if tensor.element_size() == 4 else torch.uint8)
    weights = torch.arange(words.numel(), device=words.device, dtype=torch.int64) * (2 * _PRIME) + 1
    return (words.to(torch.int64) * weights).sum()


def check(tensors: Mapping[str, Tensor], world: World) -> None:
    """Raise Diverged on every process, with the names of what differs, where one holds other bits than another."""
    if world.size == 1 or not tensors:
        return
    mine = fingerprints(tensors, world.device)
    lowest, highest = world.all_reduce_extremes(mine)
    differ = [name for name, same in zip(tensors, (lowest == highest).tolist(), strict=True) if not same]
    if differ:
        more = f" and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        raise Diverged(f"the processes hold different values of {', '.join(differ[:SHOWN])}{more}")
