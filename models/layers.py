"""Layers that carry an optional tangent.

Every layer maps (x, t) to (f(x), J_f(x) t), where t is None or has the shape of x. One forward pass then gives the
directional derivative of a network, which makes R1 exact without a backward of a backward (trainer/losses.py). It
stands in the layers' own forward so that the hooks of every wrapper fire.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pair = tuple[Tensor, Tensor | None]


class Linear(nn.Linear):
    """x: [B, in] -> [B, out]; the tangent sees the weight, not the bias."""

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:  # type: ignore[override]
        return super().forward(x), None if t is None else F.linear(t, self.weight)


class Conv2d(nn.Conv2d):
    """x: [B, C, H, W]; the tangent sees the weight, not the bias."""

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:  # type: ignore[override]
        return super().forward(x), None if t is None else self._conv_forward(t, self.weight, None)


class LeakyReLU(nn.Module):
    """max(x, slope * x), 0 <= slope < 1; slope 0 is ReLU."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:
        y = F.leaky_relu(x, self.slope)
        # `where` saves one bool mask; t * where(...) would save a whole float tensor.
        return y, None if t is None else torch.where(x > 0, t, self.slope * t)


class Flatten(nn.Module):
    """[B, ...] -> [B, N]."""

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:
        return x.flatten(1), None if t is None else t.flatten(1)


class AvgPool2d(nn.AvgPool2d):
    """[B, C, H, W] -> its means, zeros outside the image counted (PyTorch's default); linear, so the tangent's too."""

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:  # type: ignore[override]
        return super().forward(x), None if t is None else super().forward(t)


class Chain(nn.Sequential):
    """Layers one after the other, with the tangent alongside."""

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:
        for layer in self:
            x, t = layer(x, t)
        return x, t
