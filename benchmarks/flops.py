"""Floating-point operations of one iteration of stage 2 in closed form, from the list of channels.

A multiplication and an addition count as two; only matrix products and convolutions count, as in
torch.utils.flop_counter, against which tests/benchmarks/test_step.py checks every number here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from models.layers import ConvOfEnlarged

S, C = 256, 20


@dataclass(frozen=True)
class Size:
    """What the paper trains at a resolution: nf, largest width, a batch, bottleneck or none."""

    resolution: int
    nf: int
    nf_max: int
    batch: int
    bottleneck: bool


def conv(fin: int, fout: int, kernel: int, side: int) -> int:
    """Forward, one image, `side` px of output."""
    return 2 * kernel**2 * fin * fout * side**2


def block(fin: int, fout: int, side: int) -> int:
    """A ResBlock: two 3x3 convolutions and, where the widths differ, a 1x1 shortcut."""
    hidden = min(fin, fout)
    shortcut = conv(fin, fout, 1, side) if fin != fout else 0
    return conv(fin, hidden, 3, side) + conv(hidden, fout, 3, side) + shortcut


def widths(size: Size) -> list[int]:
    """Channels from full resolution down to 4 px."""
    return [min(size.nf * 2**i, size.nf_max) for i in range(int(math.log2(size.resolution // 4)) + 1)]


def trunk(size: Size) -> int:
    """The ResBlocks of G or of D."""
    w = widths(size)
    return sum(block(a, b, size.resolution >> i) for i, (a, b) in enumerate(zip([size.nf, *w[:-1]], w, strict=True)))


def generator(size: Size) -> tuple[int, int]:
    """(all layers, the first one alone) forward, one image."""
    first = 2 * (S + C) * widths(size)[-1] * 16
    return first + trunk(size) + conv(size.nf, 3, 3, size.resolution), first


def discriminator(size: Size) -> tuple[int, int]:
    """(all layers, the first one alone) forward, one image."""
    first, top = conv(3, size.nf, 3, size.resolution), widths(size)[-1]
    heads = 2 * conv(top, top, 1, 4) if size.bottleneck else 0
    return first + trunk(size) + heads + 2 * top * 16, first


def encoder() -> int:
    """Table A.2's, forward, one 64 px image."""
    sides, channels = (32, 16, 8, 4), (3, 32, 32, 64, 64)
    convs = sum(conv(a, b, 4, s) for a, b, s in zip(channels[:-1], channels[1:], sides, strict=True))
    return convs + 2 * 64 * 16 * 256 + 2 * 256 * 2 * C


def our_trunk(size: Size, of_generator: bool) -> int:
    """The ResBlocks as models.resnet has them: shortcuts on the smaller side, 4 products for 9 where it enlarges."""
    total, w = 0, widths(size)
    for i, (a, b) in enumerate(zip([size.nf, *w[:-1]], w, strict=True)):
        side = size.resolution >> i
        (fin, fout), resampled = ((b, a) if of_generator else (a, b)), side > 4
        total += block(fin, fout, side)
        if resampled and fin != fout:
            total -= conv(fin, fout, 1, side) - conv(fin, fout, 1, side // 2)
        if resampled and of_generator and side // 2 >= ConvOfEnlarged.WORTH_FROM:
            total -= conv(fin, min(fin, fout), 3, side) - conv(fin, min(fin, fout), 2, side)
    return total


def halvings(size: Size) -> int:
    """The backward pass of D's poolings, of both parts of a sum, which is a convolution of each channel."""
    pairs = zip([size.nf, *widths(size)[:-1]], widths(size), strict=True)
    sides = [(a, b, size.resolution >> i) for i, (a, b) in enumerate(pairs)]
    return sum(conv(1, a + b, 3, side // 2) for a, b, side in sides if side > 4)


def ours(size: Size, real: Callable[[Size, Passes], int]) -> int:
    """One image, as in `iteration_flops`; real: the cost of D on the reals."""
    (g, g_first), (d, d_first), q, h = generator(size), discriminator(size), encoder(), halvings(size)
    g += our_trunk(size, True) - trunk(size)
    d += our_trunk(size, False) - trunk(size)
    passes = Passes(d, 3 * d - d_first + h, h)
    return q + g + real(size, passes) + passes.trained + (g + d + q + q + d + h + 2 * g - g_first)


class Passes(NamedTuple):
    """D's costs: forward; forward and backward where the image takes no gradient; what its poolings add to backward."""

    forward: int
    trained: int
    poolings: int


def no_r1(size: Size, d: Passes) -> int:
    """D on the reals forward and backward."""
    return d.trained


def r1_in_two_passes(size: Size, d: Passes) -> int:
    """The image's gradient, and a tangent beside the other pass."""
    return (2 * d.forward + d.poolings) + 2 * d.trained


def r1_in_one_pass(size: Size, d: Passes) -> int:
    """Forward, to the image, the tangent, the weights; a second backward pass where there is a bottleneck."""
    last = 2 * widths(size)[-1] * 16
    heads = 2 * conv(widths(size)[-1], widths(size)[-1], 1, 4) if size.bottleneck else 0
    body = d.forward - heads - last
    again = d.trained - d.forward - 2 * (heads + last) + last if size.bottleneck else 0
    return 4 * body + d.poolings + 7 * (heads + last) + again


def iteration_flops(size: Size) -> dict[str, float]:
    """One whole batch, by variant of benchmarks/step.py.

    A backward pass costs a layer once for its weight and once for its input, which the first layer of a network whose
    input takes no gradient does without.
    """
    (g, g_first), (d, d_first), q = generator(size), discriminator(size), encoder()
    last = 2 * widths(size)[-1] * 16
    again = 2 * (d - last)  # R1's own backward call runs through the first forward pass once more, mostly with zeros
    shared = q + g + (3 * d - d_first)  # the code, the fakes, D on them forward and backward
    g_step = g + d + q + q + d + (2 * g - g_first)
    r1 = d + 2 * d - last  # the image's gradient, and its gradient, where the last layer's input is a constant
    real = d + 2 * d
    flops = {
        "plain": shared + real + r1 + again + g_step,
        "tuned": shared + real + r1 + g_step,
        "ours, R1 in two passes": ours(size, r1_in_two_passes),
        "ours": ours(size, r1_in_one_pass),
        "ours, no R1": ours(size, no_r1),
    }
    flops["ours, lazy"] = (15 * flops["ours, no R1"] + flops["ours"]) / 16
    return {name: float(value * size.batch) for name, value in flops.items()}
