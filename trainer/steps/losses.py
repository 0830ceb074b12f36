"""Every loss term as a pure function. Equations "A.n" are in the appendix of the ID-GAN paper.

Both discriminator terms serve every system. In cGAN the logits are of pairs (x, c): real ones from
p_d(x, c) = p(x) q(c|x), fake ones from p_G(x, c) = q(c) p_G(x|c) (A.14). Against the best D, G then minimises a
divergence of the two that contains -R_ID (A.15 to A.20): cGAN raises R_ID as far as its D is near its optimum, ID-GAN
raises it directly. (What A.15 writes out, the sum of both KL divergences, is Jeffreys' divergence. A GAN minimises the
Jensen-Shannon divergence, which A.14 names: the derivation is not of that one.)
"""

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


def total_correlation(logits: Tensor) -> Tensor:
    """FactorVAE's estimate of KL(q(c) || prod_j q(c_j)) in nats: mean of log D / (1 - D) (Kim & Mnih, 2018, eq. 3).

    logits: [B, 2], the critic's for samples of q(c): (q(c), product of marginals) -> scalar.
    """
    return (logits[:, 0] - logits[:, 1]).mean()


def critic(joint: Tensor, permuted: Tensor) -> Tensor:
    """Cross-entropy of FactorVAE's critic, which separates q(c) from its permuted dims (Kim & Mnih, algorithm 2).

    joint, permuted: logits [B, 2] of (q(c), product of marginals) -> scalar; the best critic reaches
    log 2 - JSD(q(c), product), log 2 where the latents are independent.
    """
    return (F.softplus(joint[:, 1] - joint[:, 0]).mean() + F.softplus(permuted[:, 0] - permuted[:, 1]).mean()) / 2


def permute_dims(c: Tensor, keys: Tensor) -> Tensor:
    """Samples of the product of marginals: each latent shuffled over the batch by itself (Kim & Mnih, algorithm 1).

    c: [B, c_dim], the GLOBAL batch; keys: int64 [B, c_dim], random: column j in the order of its keys -> [B, c_dim].
    """
    return c.gather(0, keys.argsort(dim=0, stable=True))


def discriminator_real(logits: Tensor, paired: Tensor | None = None) -> Tensor:
    """-log sigmoid(D(x)), the real half of D's loss (Goodfellow et al., 2014, eq. 1).

    paired: D(G(z)), for the relativistic objective -log sigmoid(D(x) - D(G(z))) (Jolicoeur-Martineau, 2019; Huang et
    al., 2024), real b against fake b. Held fixed here as D(x) is in `discriminator_fake`, the two have the
    gradient of that one loss between them. logits, paired: [B] -> scalar.
    """
    return F.softplus(-logits if paired is None else paired - logits).mean()


def discriminator_fake(logits: Tensor, paired: Tensor | None = None) -> Tensor:
    """-log(1 - sigmoid(D(G(z)))), the fake half of D's loss (the same equation).

    paired: D(x), for the relativistic objective: -log(1 - sigmoid(D(G(z)) - D(x))). logits, paired: [B] -> scalar.
    """
    return F.softplus(logits if paired is None else logits - paired).mean()


def generator(logits: Tensor, paired: Tensor | None = None) -> Tensor:
    """-log sigmoid(D(G(z))), G's non-saturating loss (Goodfellow et al., 2014, section 3).

    paired: D(x), for the relativistic objective: -log sigmoid(D(G(z)) - D(x)). logits, paired: [B] -> scalar.
    """
    return F.softplus(-logits if paired is None else paired - logits).mean()


def code_nll(c: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """-E log q(c|G(s, c)) of a Gaussian encoder, summed over the code, mean over the batch, in nats.

    The code term of two systems, which differ in where c comes from and in who learns from it:
      InfoGAN: c ~ p(c), G and q learn: code_nll = H(p) - R_Info(G, q) (A.4 to A.10);
      ID-GAN:  c ~ q(c), G learns, q is frozen: code_nll = H(q) - R_ID(G) (A.11 to A.13).
    The entropy is constant in what learns, so minimising this maximises R, a lower bound of the mutual information of
    c and the image.

    c: [B, c_dim], the code that made x = G(s, c); mean, logvar: [B, c_dim], what q says of x.
    """
    return code_nll_of_each(c, mean, logvar).mean()


def code_nll_of_each(c: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """-log q(c|x) of each image in nats: [B]. Arguments as those of `code_nll`; the 1e-8 is the authors'."""
    squared = (c - mean).square() / (logvar.exp() + 1e-8)
    return ((math.log(2 * math.pi) + logvar + squared) / 2).sum(1)


def image_gradient(discriminator: nn.Module, x: Tensor, **inputs: Tensor | None) -> Tensor:
    """g_b = d D(x, c)_b / d x_b, the first of R1's two passes: D must be frozen.

    x: [B, C, R, R]; inputs: D's other arguments -> [B, C, R, R].
    """
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(x, **inputs).logits.sum(), x)
    return gradient.detach()


def gradient_penalty(tangent: Tensor) -> Tensor:
    """R1 = mean_b ||grad_x D(x_b)||^2 (Mescheder et al., 2018, eq. 9 without its 1/2), with its exact gradient.

    At generated images it is R2 (the same, eq. 10).

    tangent: [B], D's tangent along g = image_gradient, which is held fixed: g_b . grad_x D(x_b; theta). It equals
    ||g_b||^2 and has half of its gradient in theta, so 2 * tangent - its own value has both right, and no backward is
    differentiated. Returns a scalar.
    """
    return (2 * tangent - tangent.detach()).mean()
