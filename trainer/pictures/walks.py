"""Walks through latent space: traversals of one latent, and arcs between codes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

TRAVERSAL_STEPS, TRAVERSAL_LIMIT = 7, 3


def traversal_values() -> Tensor:
    """Return linspace(-3, 3, 7), as in the paper's figures."""
    return torch.linspace(-TRAVERSAL_LIMIT, TRAVERSAL_LIMIT, TRAVERSAL_STEPS)


def traversal_codes(base: Tensor, latent: int) -> Tensor:
    """Set one latent of each base [B, dim] to each traversal value: [B, 7, dim]."""
    c = base[:, None].repeat(1, TRAVERSAL_STEPS, 1)
    c[:, :, latent] = traversal_values()
    return c


def slerp(a: Tensor, b: Tensor, share: float | Tensor) -> Tensor:
    """Interpolate between vectors [B, dim] along the arc; the length goes evenly from |a| to |b|.

    share: 0 is a, 1 is b; a number, or one for each row, [B, 1].
    """
    if a.shape[1] == 0:
        return a
    sizes = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    p, q = (v / size.clamp_min(1e-12) for v, size in zip((a, b), sizes, strict=True))
    angle = (p * q).sum(1, keepdim=True).clamp(-1, 1).acos()
    turn = angle.sin()
    straight = turn < 1e-4  # the same direction, or the opposite one, where there is no shortest arc
    along = (((1 - share) * angle).sin() * p + (share * angle).sin() * q) / turn.clamp_min(1e-12)
    size = (1 - share) * sizes[0] + share * sizes[1]
    return torch.where(straight, (1 - share) * a + share * b, along * size)


def loop(keys: Tensor, steps: int, first: int | None = None) -> Iterator[Tensor]:
    """Go along arcs from each of the keys [K, B, dim] to the next, and from the last to the first.

    first: how many dimensions have an arc of their own, beside that of the others: s before y. Yields K * steps tensors
    [B, dim], `steps` of them from one key to the next; the first of these is the key itself.
    """
    sizes = [keys.shape[2]] if first is None else [first, keys.shape[2] - first]
    for here, after in zip(keys, keys.roll(-1, 0), strict=True):
        for step in range(steps):
            parts = zip(here.split(sizes, 1), after.split(sizes, 1), strict=True)
            yield torch.cat([slerp(a, b, step / steps) for a, b in parts], 1)


def swing(base: Tensor, latent: int, steps: int) -> Iterator[Tensor]:
    """Let one latent of each base [B, dim] swing over the range of a traversal, from 0 up, down and back to 0.

    Yields `steps` tensors [B, dim].
    """
    for step in range(steps):
        c = base.clone()
        c[:, latent] = TRAVERSAL_LIMIT * math.sin(2 * math.pi * step / steps)
        yield c
