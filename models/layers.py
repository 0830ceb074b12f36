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


class CodeProjection(nn.Module):
    """cGAN's share of the logit: how well the code c belongs to the features of x. Linear in [c, c^2].

    The optimal discriminator of pairs has the logit log p_d(x, c) / p_G(x, c), where p_d(x, c) = p(x) q(c|x) and
    p_G(x, c) = q(c) p_G(x|c) (A.14). As a function of c it is log q(c|x) - log p_G(c|x), and q is a Gaussian with
    diagonal covariance: its logarithm is linear in (c, c^2) with coefficients that depend on x. So the logit gains
    features(x) . V [c, c^2], which can represent that exactly (a projection discriminator, Miyato & Koyama, 2018, on
    the sufficient statistics of q). c belongs to the pair, not to the image: R1's tangent runs through x alone.

    x: features [B, features]; t: their tangent or None; c: [B, c_dim] -> ([B, 1], its tangent or None).
    """

    def __init__(self, features: int, c_dim: int) -> None:
        super().__init__()
        self.embed = nn.Linear(2 * c_dim, features, bias=False)
        self.scale = features**-0.5  # the weights on x then start as large as those of a Linear(features, 1)

    def forward(self, x: Tensor, t: Tensor | None, c: Tensor) -> Pair:
        weight = self.embed(torch.cat((c, c.square()), 1)) * self.scale
        return (x * weight).sum(1, keepdim=True), None if t is None else (t * weight).sum(1, keepdim=True)


class Chain(nn.Sequential):
    """Layers one after the other, with the tangent alongside."""

    def forward(self, x: Tensor, t: Tensor | None = None) -> Pair:
        for layer in self:
            x, t = layer(x, t)
        return x, t
