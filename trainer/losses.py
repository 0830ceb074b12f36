"""Every loss term as a pure function. Equations "A.n" are of the ID-GAN paper's appendix."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def bernoulli_reconstruction(logits: Tensor, x: Tensor) -> Tensor:
    """-log p(x|c) of pixels in [0, 1] under Bernoulli logits: summed over pixels, mean over the batch.

    logits, x: [B, C, 64, 64] -> scalar: the reconstruction term of the beta-VAE (Higgins et al., 2017, eq. 4).
    """
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)


def gaussian_reconstruction(logits: Tensor, x: Tensor) -> Tensor:
    """Squared error of sigmoid(logits), no 1/2, summed over pixels, mean over the batch: beta is tied to this scale.

    logits, x: [B, C, 64, 64], x in [0, 1] -> scalar: the reconstruction term of the beta-VAE with a Gaussian decoder.
    """
    return F.mse_loss(logits.sigmoid(), x, reduction="sum") / len(x)


def kl_per_latent(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) in nats, mean over the batch (Kingma & Welling, 2014, appendix B).

    mean, logvar: [B, c_dim] -> [c_dim].
    """
    return ((mean.square() + logvar.exp() - 1 - logvar) / 2).mean(0)


def discriminator_real(logits: Tensor) -> Tensor:
    """-log sigmoid(D(x)), the real half of D's loss (Goodfellow et al., 2014, eq. 1). logits: [B] -> scalar."""
    return F.softplus(-logits).mean()


def discriminator_fake(logits: Tensor) -> Tensor:
    """-log(1 - sigmoid(D(G(z)))), the fake half of D's loss (the same equation). logits: [B] -> scalar."""
    return F.softplus(logits).mean()


def generator(logits: Tensor) -> Tensor:
    """-log sigmoid(D(G(z))), G's non-saturating loss (Goodfellow et al., 2014, section 3). logits: [B] -> scalar."""
    return F.softplus(-logits).mean()


def code_nll(c: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """-log q(c|x) of a Gaussian encoder, summed over the code, mean over the batch: -R_ID + H(c) (A.11 to A.13).

    c: [B, c_dim], the code that made x; mean, logvar: [B, c_dim], what q says of x. The 1e-8 is the authors'.
    """
    squared = (c - mean).square() / (logvar.exp() + 1e-8)
    return ((math.log(2 * math.pi) + logvar + squared) / 2).sum(1).mean()


def image_gradient(discriminator: nn.Module, x: Tensor) -> Tensor:
    """g_b = d D(x)_b / d x_b, the first of R1's two passes: D must be frozen. x: [B, C, R, R] -> the same shape."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(x).logits.sum(), x)
    return gradient.detach()


def r1_penalty(tangent: Tensor) -> Tensor:
    """R1 = mean_b ||grad_x D(x_b)||^2 (Mescheder et al., 2018, eq. 9 without its 1/2), with its exact gradient.

    tangent: [B], D's tangent along g = image_gradient, which is held fixed: g_b . grad_x D(x_b; theta). It equals
    ||g_b||^2 and has half of its gradient in theta, so 2 * tangent - its own value has both right, and no backward is
    differentiated. Returns a scalar.
    """
    return (2 * tangent - tangent.detach()).mean()
