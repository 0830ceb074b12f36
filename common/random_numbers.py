"""Random numbers as a pure function of (seed, purpose, position, index): Philox4x32-10, no state.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), section 3. The integers are
computed with wrapping int64 arithmetic, so every device gives the same ones and nothing waits for the host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


class Purpose(IntEnum):
    """What a random number is drawn for. The numbers are part of every run: never reuse or renumber one."""

    ORDER = 1
    FLIP = 2
    DEQUANTISE = 3
    NUISANCE_D = 4  # s of the discriminator's step
    NUISANCE_G = 5  # s of the generator's step
    CODE = 6  # eps of c = mu + sigma * eps
    VAE_CODE = 7
    VARIANT_COLOR = 8
    VARIANT_NOISE = 9
    VARIANT_CROP = 10
    VARIANT_TINT = 11
    SUBSET = 12
    EVAL_NUISANCE = 14
    EVAL_CODE = 15
    EVAL_ORDER = 16
    EVAL_FACTORS = 17
    FACTOR_NET = 18
    HELD_OUT = 19
    PERMUTED_DIMS = 20  # of FactorVAE
    BOTTLENECK_REAL = 21
    BOTTLENECK_FAKE = 22
    BOTTLENECK_G = 23  # the fake of the generator's step
    FACES = 24  # factors of drawn faces
    FACE_NET = 25
    BOTTLENECK_G_REAL = 26  # the real of the generator's step, which a relativistic objective looks at
    STACKED = 27  # classes and orientations of stacked sprites
    REWIND = 28  # the seed of what follows a rewind
    AUGMENT_REAL = 29  # what D sees of the reals of its step
    AUGMENT_FAKE = 30
    AUGMENT_G = 31  # and of the fake of the generator's step
    AUGMENT_G_REAL = 32
    LEAKS = 33  # of the detector of augmented images
    PATHS = 34  # places along paths between latents


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute Philox4x32-10.

    counter: four int64 tensors that broadcast, values in [0, 2^32); key: two integers in the same range. Returns four
    int64 tensors in [0, 2^32).
    """
    x0, x1, x2, x3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(10):
        # The 64-bit product wraps in int64; its bits are right, so mask after the arithmetic shift.
        p0, p1 = x0 * _MULTIPLIERS[0], x2 * _MULTIPLIERS[1]
        x0, x1, x2, x3 = (
            ((p1 >> 32) & _MASK) ^ x1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ x3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return x0, x1, x2, x3


def bits(seed: int, purpose: Purpose, positions: Tensor, count: int) -> Tensor:
    """Draw `count` random integers in [0, 2^32) for every position.

    seed: in [0, 2^32); positions: int64 [...], in [0, 2^63). Returns int64 [..., count]; the first k of them do not
    depend on count. Raises ValueError for a seed outside its range.
    """
    if not 0 <= seed <= _MASK:
        raise ValueError(f"seed {seed} is outside [0, 2^32)")
    block = torch.arange((count + 3) // 4, device=positions.device)
    position = positions.unsqueeze(-1)
    counter = (block, torch.zeros_like(block), position & _MASK, (position >> 32) & _MASK)
    drawn = torch.stack(philox(counter, (seed, int(purpose))), dim=-1)
    return drawn.flatten(-2)[..., :count]


def uniform(seed: int, purpose: Purpose, positions: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw from U[0, 1) for every position: float32 [*positions.shape, *shape], in multiples of 2^-24."""
    drawn = bits(seed, purpose, positions, math.prod(shape))
    return ((drawn >> 8).to(torch.float32) * 2.0**-24).reshape(*positions.shape, *shape)


def normal(seed: int, purpose: Purpose, positions: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw from N(0, 1) for every position: float32 [*positions.shape, *shape].

    By Box-Muller in float64; |z| <= 6.7.
    """
    count = math.prod(shape)
    drawn = bits(seed, purpose, positions, count + count % 2).to(torch.float64)
    radius = torch.sqrt(-2.0 * torch.log((drawn[..., 0::2] + 1.0) * 2.0**-32))
    angle = drawn[..., 1::2] * (2.0 * math.pi * 2.0**-32)
    pair = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)
    return pair.flatten(-2)[..., :count].to(torch.float32).reshape(*positions.shape, *shape)


def integers(seed: int, purpose: Purpose, positions: Tensor, shape: Sequence[int], high: int) -> Tensor:
    """Draw uniform integers in [0, high) for every position: int64 [*positions.shape, *shape].

    Their bias is below high / 2^32.
    """
    drawn = bits(seed, purpose, positions, math.prod(shape))
    return ((drawn * high) >> 32).reshape(*positions.shape, *shape)
