"""One iteration of stage 2, in the order of the paper. The five GANs are settings of it (config.SYSTEMS)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data_shards.noise import Purpose, normal
from models import CodeEncoder, sample_posterior

from . import ema, losses
from .batches import Reals
from .config import GanConfig
from .engines.ddp import Replicated
from .stats import Terms

TERMS = ("loss_d_real", "loss_d_fake", "r1", "loss_g", "logit_real", "logit_fake", "grad_norm_d", "grad_norm_g")


class GanStep:
    """A code, a discriminator step, a generator step with the same code, the average.

    G maps [s, c] to images. D(x, tangent=, c=) gives logits and carries a tangent. q gives (mean, logvar) of images
    in [-1, 1]: a frozen one, InfoGAN's with its optimizer, or None.
    """

    def __init__(
        self, g: Replicated, d: Replicated, q: CodeEncoder | Replicated | None, average: nn.Module, config: GanConfig
    ) -> None:
        self.g, self.d, self.average, self.config = g, d, average, config
        self.learner = q if isinstance(q, Replicated) else None
        self.q: nn.Module | None = q.network if isinstance(q, Replicated) else q
        self.terms: tuple[str, ...] = TERMS
        self.terms += ("code_nll",) if config.code_loss != "none" else ()
        self.terms += ("grad_norm_q",) if self.learner else ()
        self.d.freeze()

    def __call__(self, batches: Sequence[Reals]) -> Terms:
        """batches: this process's micro-batches of one iteration."""
        terms = Terms()
        share = 1 / len(batches)

        codes = [self.code(reals) for reals in batches]
        for reals, c in zip(batches, codes, strict=True):
            self._discriminator_pass(reals, c, share, terms)
        terms["grad_norm_d"] = self.d.step()

        for reals, c in zip(batches, codes, strict=True):
            self._generator_pass(reals, c, share, terms)
        terms["grad_norm_g"] = self.g.step()
        if self.learner:
            terms["grad_norm_q"] = self.learner.step()

        ema.update(self.average, self.g.network, self.config.ema_decay)
        return terms

    @torch.no_grad()
    def code(self, reals: Reals) -> Tensor:
        """c ~ N(0, I), or c ~ q(c|x) of this batch's reals: a sample of the aggregated posterior. [b, c_dim]"""
        eps = self._normal(Purpose.CODE, reals, self.config.c_dim)
        if self.config.code_source != "posterior":
            return eps
        assert self.q is not None
        mean, logvar = self.q(reals.twin)
        return sample_posterior(mean, logvar, eps)

    def _discriminator_pass(self, reals: Reals, c: Tensor, share: float, terms: Terms) -> None:
        """softplus(-D(x)) + softplus(D(G(s, c))) + r1 * ||grad_x D(x)||^2 on one micro-batch; D's gradients add up.

        cGAN's D judges the pairs (x, c), where c ~ q(c|x), and (G(s, c), c): for each c a real and a fake image.
        Reals and fakes go backward one after the other, which halves the activations that are alive.
        """
        D, G, seen = self.d.network, self.g.network, self._seen(c)
        gradient = losses.image_gradient(D, reals.images, seen) if self.config.r1 else None
        with torch.no_grad():
            fakes = G(self._latent(Purpose.NUISANCE_D, reals, c))

        self.d.unfreeze()
        real = D(reals.images, tangent=gradient, c=seen)
        loss_real = losses.discriminator_real(real.logits)
        r1 = losses.r1_penalty(real.tangent) if self.config.r1 else torch.zeros_like(loss_real)
        ((loss_real + self.config.r1 * r1) * share).backward()

        fake = D(fakes, c=seen)
        loss_fake = losses.discriminator_fake(fake.logits)
        (loss_fake * share).backward()
        self.d.freeze()

        terms.add(share, loss_d_real=loss_real, loss_d_fake=loss_fake, r1=r1)
        terms.add(share, logit_real=real.logits.mean(), logit_fake=fake.logits.mean())

    def _generator_pass(self, reals: Reals, c: Tensor, share: float, terms: Terms) -> None:
        """softplus(-D(G(s', c))) - lambda * log q(c|G(s', c)) on one micro-batch: a new s, the same c.

        InfoGAN's q learns from the second term too.
        """
        fakes = self.g.network(self._latent(Purpose.NUISANCE_G, reals, c))
        loss = adversarial = losses.generator(self.d.network(fakes, c=self._seen(c)).logits)
        terms.add(share, loss_g=adversarial)
        if self.config.code_loss != "none":
            assert self.q is not None
            nll = losses.code_nll(c, *self.q(fakes))
            loss = adversarial + self.config.code_weight * nll
            terms.add(share, code_nll=nll)
        (loss * share).backward()

    def _seen(self, c: Tensor) -> Tensor | None:
        """What D gets besides the image."""
        return c if self.config.d_sees_code else None

    def _latent(self, purpose: Purpose, reals: Reals, c: Tensor) -> Tensor:
        """G's input [s, c], s first: [b, s_dim + c_dim]."""
        return torch.cat((self._normal(purpose, reals, self.config.s_dim), c), dim=1)

    def _normal(self, purpose: Purpose, reals: Reals, size: int) -> Tensor:
        return normal(self.config.seed, purpose, reals.positions, (size,)).to(reals.images.dtype)
