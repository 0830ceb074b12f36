"""Sharpness of images at their full size, as sums over images: the spectrum, and the detail of each halving.

Features at 64 px, or at Inception's 299, do not see what a picture holds above that: one that was enlarged from 64 px
scores as well as a sharp one. These two numbers look at every pixel and need no network.

The spectrum is the power of the grey image (the mean of the channels) at the frequencies (u, v) in cycles per picture,
averaged over rings of one octave, 2^k <= |(u, v)| < 2^(k+1), from 1-2 to R/4-R/2. The mean of each image has frequency
0 and is in no ring. The corners from R/2 on are left out: only some directions have such frequencies. The detail at r =
R, R/2, ..., 64 px is the mean square, over pixels and channels, of the image at r px minus its 2 x 2 box mean enlarged
by nearest. The image at r px is the exact box mean of the whole one. Pixels are in [0, 1], powers are those of the
unitary transform: those of white noise are its variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from common.arrays import Float64, Int64
from data_shards.read.loader import CODE_RESOLUTION

FLOOR = 1e-12  # smallest mean whose log10 is taken; rounding to uint8 alone has 1e-6, an enlarged image exactly 0
VALUES_AT_ONCE = 2**18  # of pixels and channels


def ring_starts(resolution: int) -> list[int]:
    """Return the lower end of each ring in cycles per picture: 1, 2, 4, ..., R/4. resolution: a power of two."""
    return [2**k for k in range(resolution.bit_length() - 2)]


def halvings(resolution: int) -> list[int]:
    """Return the resolutions at which detail is measured: R, R/2, ..., 64 px. resolution: a power of two."""
    return [resolution >> k for k in range((resolution // CODE_RESOLUTION).bit_length())]


def ring_power(images: Tensor) -> Float64:
    """Return the mean power in each ring, summed over the images: [len(ring_starts(R))]. images: uint8 [B, C, R, R]."""
    size = images.shape[-1]
    power = torch.zeros(size, size // 2 + 1, dtype=torch.float64, device=images.device)
    for few in _few_at_a_time(images):
        grey = few.float().mean(1) / 255
        transformed = torch.fft.rfft2(grey - grey.mean((1, 2), keepdim=True), norm="ortho")
        power += (transformed.real.square() + transformed.imag.square()).sum(0, dtype=torch.float64)
    ring, weight = _rings(size)
    rings = slice(1, 1 + len(ring_starts(size)))
    total = np.bincount(ring, (power.cpu().numpy() * weight).ravel())[rings]
    frequencies = np.bincount(ring, np.broadcast_to(weight, power.shape).ravel())[rings]
    mean: Float64 = total / frequencies
    return mean


@lru_cache(maxsize=4)
def _rings(size: int) -> tuple[Int64, Float64]:
    """Return the number of the ring of each frequency of a real transform, flat, and the weight of each column.

    Ring 0 is the mean and the last one the corners. A column between the first and the last one stands for the
    negative frequencies too, and has weight 2.
    """
    u, v = np.fft.fftfreq(size, 1 / size), np.fft.rfftfreq(size, 1 / size)
    squared = u[:, None] ** 2 + v**2
    edges = np.array([*ring_starts(size), size // 2], np.float64) ** 2
    weight = np.full(len(v), 2.0)
    weight[[0, -1]] = 1.0
    return np.digitize(squared.ravel(), edges), weight


def detail(images: Tensor) -> Float64:
    """Return the detail of each halving, summed over the images: [len(halvings(R))]. images: uint8 [B, C, R, R].

    A square of four pixels a b / c d deviates from its mean by ((a - c)^2 + (b - d)^2) / 2 + (a + c - b - d)^2 / 4.
    """
    energy = np.zeros(len(halvings(images.shape[-1])))
    for few in _few_at_a_time(images):
        sums, area = few.float(), 1  # of the pixels behind one pixel of this level: whole numbers, exact in float32
        for level in range(len(energy)):
            upper, lower = sums[:, :, 0::2], sums[:, :, 1::2]
            columns = upper + lower
            left, right = columns[..., 0::2], columns[..., 1::2]
            squares = _sum_of_squares(upper - lower) / 2 + _sum_of_squares(left - right) / 4
            energy[level] += squares / (255 * area) ** 2 / sums[0].numel()
            sums, area = left + right, 4 * area
    return energy


def _sum_of_squares(x: Tensor) -> float:
    return float(x.square_().sum(dtype=torch.float64))


def _few_at_a_time(images: Tensor) -> Iterator[Tensor]:
    yield from images.split(max(1, VALUES_AT_ONCE // math.prod(images.shape[1:])))


@dataclass
class SharpnessSums:
    """Sums over images of R px, R = 64 * 2^k; they add up over blocks and processes.

    numbers: float64 [n], the number of images, then the ring powers, then the details of the halvings.
    """

    resolution: int
    numbers: Float64

    @classmethod
    def empty(cls, resolution: int) -> SharpnessSums:
        """Return the sums of no images of this resolution."""
        return cls(resolution, np.zeros(1 + len(ring_starts(resolution)) + len(halvings(resolution))))

    @classmethod
    def of(cls, images: Tensor) -> SharpnessSums:
        """Return the sums of images uint8 [B, C, R, R]."""
        return cls(images.shape[-1], np.concatenate(([len(images)], ring_power(images), detail(images))))

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.numbers[0])

    @property
    def spectrum(self) -> Float64:
        """Return log10 of the mean power in each ring: [len(ring_starts(R))]. Values below FLOOR count as FLOOR."""
        return self._log10[: len(ring_starts(self.resolution))]

    @property
    def detail(self) -> Float64:
        """Return log10 of the mean detail of each halving: [len(halvings(R))]. Values below FLOOR count as FLOOR."""
        return self._log10[len(ring_starts(self.resolution)) :]

    @property
    def _log10(self) -> Float64:
        means: Float64 = np.log10(np.maximum(self.numbers[1:] / self.numbers[0], FLOOR))
        return means


def differences(images: SharpnessSums, reals: SharpnessSums) -> dict[str, float | None]:
    """Return log10 of the images minus log10 of the reals, both of one resolution.

    `spectrum` and `detail` are the differences that are farthest from 0: above 0 the images have more than the reals,
    below 0 less. Those of each ring and halving follow, as `spectrum_32_to_64` (cycles per picture) and
    `detail_256_px`.
    """
    assert images.resolution == reals.resolution
    spectrum, halved = images.spectrum - reals.spectrum, images.detail - reals.detail
    each: dict[str, float | None] = {"spectrum": _farthest(spectrum), "detail": _farthest(halved)}
    for low, difference in zip(ring_starts(images.resolution), spectrum, strict=True):
        each[f"spectrum_{low}_to_{2 * low}"] = float(difference)
    for size, difference in zip(halvings(images.resolution), halved, strict=True):
        each[f"detail_{size}_px"] = float(difference)
    return each


def _farthest(values: Float64) -> float:
    return float(values[np.abs(values).argmax()])
