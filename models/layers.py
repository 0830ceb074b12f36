"""Layers that carry an optional tangent.

Every layer maps (x, t) to (f(x), J_f(x) t), where t is None or has the shape of x. One forward pass then gives the
directional derivative of a network, which makes R1 exact without a backward of a backward (trainer/steps/losses.py). It
is computed in the layers' own forward, so that the hooks of every wrapper (DDP, FSDP2, ZeRO) fire.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pair = tuple[Tensor, Tensor | None]


class Linear(nn.Linear):
    """x: [B, in] -> [B, out]; the tangent sees the weight, not the bias."""

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:  # type: ignore[override]
        """Apply the layer to x and its tangent t."""
        return super().forward(x), None if t is None else self.along(t)

    def along(self, t: Tensor) -> Tensor:
        """Apply the weight alone."""
        return F.linear(t, self.weight)

    def weight_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return the weight's gradient, from the input and the gradient at the output."""
        return gradient.T @ x


class Conv2d(nn.Conv2d):
    """x: [B, C, H, W]; the tangent sees the weight, not the bias."""

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:  # type: ignore[override]
        """Apply the layer to x and its tangent t."""
        return super().forward(x), None if t is None else self.along(t)

    def along(self, t: Tensor) -> Tensor:
        """Apply the weight alone."""
        return self._conv_forward(t, self.weight, None)

    def weight_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return the weight's gradient, from the input and the gradient at the output."""
        shape = (self.stride, self.padding, self.dilation, False, (0, 0), self.groups)
        found: Tensor = torch.ops.aten.convolution_backward(
            gradient, x, self.weight, None, *shape, (False, True, False)
        )[1]
        return found


class ConvOfEnlarged(nn.Conv2d):
    """conv3x3(x enlarged twice, nearest): [B, C, H, W] -> [B, out, 2 H, 2 W]. It takes no tangent.

    Every four pixels of the enlarged image are equal, so sums of the nine weights, as the 4x4 kernel of a transposed
    convolution, give the same with 4 instead of 9 products a pixel, and nothing is enlarged. Summing the weights costs
    more than it saves where images are small.
    """

    WORTH_FROM = 32  # px of x

    def __init__(self, fin: int, fout: int) -> None:
        super().__init__(fin, fout, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge x and convolve, at once where that is faster."""
        if x.shape[-1] < self.WORTH_FROM:
            return super().forward(F.interpolate(x, scale_factor=2))
        flipped = F.pad(self.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
        kernel = 4 * F.avg_pool2d(flipped, 2, 1)  # sums; exact, for 4 is a power of two
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


class LeakyReLU(nn.Module):
    """max(x, slope * x), 0 <= slope < 1; slope 0 is ReLU. in_place: write into the memory of x, for slope > 0."""

    def __init__(self, slope: float, in_place: bool = False) -> None:
        super().__init__()
        self.slope, self.in_place = slope, in_place

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:
        """Apply the layer to x and its tangent t."""
        if torch.compiler.is_compiling():  # the compiler fuses, and chooses what to keep, by itself
            return F.leaky_relu(x, self.slope), None if t is None else torch.where(x > 0, t, self.slope * t)
        y: Tensor = F.leaky_relu_(x, self.slope) if self.in_place else _LeakyReLU.apply(x, self.slope)
        return y, None if t is None else masked(t, y.detach(), self.slope)


class _LeakyReLU(torch.autograd.Function):
    """Keeps its result for the backward pass, which the convolution behind it keeps anyway, instead of its input."""

    @staticmethod
    def forward(x: Tensor, slope: float) -> Tensor:
        return F.leaky_relu(x, slope)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.slope = inputs[1]
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return masked(gradient, ctx.saved_tensors[0], ctx.slope), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return masked(tangent, ctx.saved_tensors[0], ctx.slope)


def masked(t: Tensor, y: Tensor, slope: float, in_place: bool = False) -> Tensor:
    """Return t where y > 0, else slope * t: one operation where torch.where takes three, and nothing new to keep."""
    if in_place:
        return torch.ops.aten.leaky_relu_backward.grad_input(t, y, slope, True, grad_input=t)
    return torch.ops.aten.leaky_relu_backward(t, y, slope, True)


class Flatten(nn.Module):
    """[B, ...] -> [B, N]."""

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:
        """Flatten x and its tangent t."""
        return x.flatten(1), None if t is None else t.flatten(1)


class Halve(nn.Module):
    """3x3 means with stride 2 and padding 1, zeros outside the image counted: [B, C, H, W] -> [B, C, H / 2, W / 2].

    It is linear: its backward pass needs nothing of its input, which torch's own pooling keeps for its size alone.
    """

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:
        """Halve x and its tangent t."""
        return _halve(x), None if t is None else _halve(t)


def _halve(x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return F.avg_pool2d(x, 3, 2, 1)
    halved: Tensor = _Halve.apply(x)
    return halved


class _Halve(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 2, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        if gradient.device.type == "cpu" and gradient.dtype == torch.bfloat16:
            return _enlarge_means(gradient.float()).bfloat16()  # its own kernel takes ten times as long there
        return _enlarge_means(gradient)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return F.avg_pool2d(tangent, 3, 2, 1)


def _enlarge_means(gradient: Tensor) -> Tensor:
    channels = gradient.shape[1]
    ones = gradient.new_ones((channels, 1, 3, 3))  # 1 / 9 would be 0.2 % too large in bf16
    return F.conv_transpose2d(gradient / 9, ones, None, 2, 1, 1, channels)


class Chain(nn.Sequential):
    """Layers one after the other, with the tangent alongside."""

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:
        """Apply the layers to x and its tangent t."""
        for layer in self:
            x, t = layer(x, t)
        return x, t
