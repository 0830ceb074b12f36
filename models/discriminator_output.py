"""The output of every discriminator, and the head that turns features into a logit."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers import Linear, Pair


class DiscriminatorOutput(NamedTuple):
    """What a discriminator returns for a batch.

    logits: [B], positive for real. kl: [B], of the bottleneck in nats, or None without one. tangent: [B], the
    derivative of the logits along the given tangent of x, or None.
    """

    logits: Tensor
    kl: Tensor | None
    tangent: Tensor | None


class LogitHead(nn.Module):
    """The head of a discriminator: features -> logit.

    In cGAN (c_dim > 0) the code's share is added, with labels (y_dim > 0) that of the label vector.
    """

    def __init__(self, features: int, c_dim: int = 0, y_dim: int = 0) -> None:
        super().__init__()
        self.linear = Linear(features, 1)
        self.projection = CodeProjection(features, c_dim) if c_dim else None
        self.label_projection = LabelProjection(features, y_dim) if y_dim else None

    def forward(self, x: Tensor, t: Tensor | None = None, c: Tensor | None = None, y: Tensor | None = None) -> Pair:
        """Return (logits [B], tangent). x: [B, features]; t: its tangent or None; c: [B, c_dim], y: [B, y_dim]."""
        logits, slope = self.linear(x, t)
        for projection, paired in ((self.projection, c), (self.label_projection, y)):
            if projection is not None:
                assert paired is not None, "a discriminator of pairs needs what images are paired with"
                share, share_slope = projection(x, t, paired)
                logits, slope = logits + share, None if slope is None else slope + share_slope
        return logits.squeeze(1), None if slope is None else slope.squeeze(1)


class CodeProjection(nn.Module):
    """cGAN's share of the logit: how well the code c belongs to the features of x. Linear in [c, c^2].

    The optimal discriminator of pairs has the logit log p_d(x, c) / p_G(x, c), where p_d(x, c) = p(x) q(c|x) and
    p_G(x, c) = q(c) p_G(x|c) (A.14). As a function of c it is log q(c|x) - log p_G(c|x), and q is a Gaussian with
    diagonal covariance: its logarithm is linear in (c, c^2) with coefficients that depend on x. So the logit gains
    features(x) . V [c, c^2], which can represent log q(c|x) exactly, and log p_G(c|x) in general not: G's posterior of
    a code need not be Gaussian (a projection discriminator, Miyato & Koyama, 2018, on the sufficient statistics of q).
    c belongs to the pair, not to the image: R1's tangent runs through x alone.

    x: features [B, features]; t: their tangent or None; c: [B, c_dim] -> ([B, 1], its tangent or None).
    """

    def __init__(self, features: int, c_dim: int) -> None:
        super().__init__()
        self.embed = nn.Linear(2 * c_dim, features, bias=False)
        self.scale = features**-0.5  # the weights on x then start as large as those of a Linear(features, 1)

    def forward(self, x: Tensor, t: Tensor | None, c: Tensor) -> Pair:
        """Return the code's share of the logit, and its tangent."""
        return _projected(x, t, self.embed(torch.cat((c, c.square()), 1)) * self.scale)


class LabelProjection(nn.Module):
    """The share of the logit of a class-conditional D (Miyato & Koyama, 2018, eq. 5): features(x) . V y.

    x: features [B, features]; t: their tangent or None; y: the label vector [B, y_dim] -> ([B, 1], its tangent or
    None). As the code, the labels belong to the pair: R1's tangent runs through x alone.
    """

    def __init__(self, features: int, y_dim: int) -> None:
        super().__init__()
        self.embed = nn.Linear(y_dim, features, bias=False)
        bound = features**-0.5
        nn.init.uniform_(self.embed.weight, -bound, bound)  # as a Linear(features, 1) for each class would start

    def forward(self, x: Tensor, t: Tensor | None, y: Tensor) -> Pair:
        """Return the labels' share of the logit, and its tangent."""
        return _projected(x, t, self.embed(y))


def _projected(x: Tensor, t: Tensor | None, weight: Tensor) -> Pair:
    """Return the inner products [B, 1] of features, and of their tangent, with weights [B, features]."""
    return (x * weight).sum(1, keepdim=True), None if t is None else (t * weight).sum(1, keepdim=True)
