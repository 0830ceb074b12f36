"""Weights and optimizer state are looked at before anything is published: a checkpoint with NaN in it leads nowhere."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

SHOWN = 3  # names in a message


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity, as far as this process holds them."""
    local = {name: t.to_local() if isinstance(t, DTensor) else t for name, t in tensors.items()}
    floats = {name: t.detach() for name, t in local.items() if t.is_floating_point() and t.numel()}
    if not floats:
        return []
    by_device: dict[torch.device, list[str]] = {}
    for name, tensor in floats.items():
        by_device.setdefault(tensor.device, []).append(name)
    bad = []
    for names in by_device.values():  # one answer for each device: a GPU is waited for once
        finite = torch.stack([torch.isfinite(floats[name]).all() for name in names]).tolist()
        bad += [name for name, is_finite in zip(names, finite, strict=True) if not is_finite]
    return bad


def listed(names: list[str]) -> str:
    """Name some tensors for a message."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
