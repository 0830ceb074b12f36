"""Forward passes of stage 2 with their inputs besides the image: random numbers, code, alpha, precision.

Every random number is a function of (seed, purpose, position).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from common.random_numbers import Purpose, normal
from models import ConvDiscriminator, Discriminator, DiscriminatorOutput, sample_posterior
from trainer.config.schema import GanConfig

from . import losses, r1
from .augment.augmenter import Augmentation, Augmenter
from .autocast import autocast
from .batches import Reals

G_STEP = (Purpose.BOTTLENECK_G, Purpose.BOTTLENECK_G_REAL)
AUGMENT = {
    Purpose.BOTTLENECK_REAL: Purpose.AUGMENT_REAL,
    Purpose.BOTTLENECK_FAKE: Purpose.AUGMENT_FAKE,
    Purpose.BOTTLENECK_G: Purpose.AUGMENT_G,
    Purpose.BOTTLENECK_G_REAL: Purpose.AUGMENT_G_REAL,
}


class Judged(NamedTuple):
    """Images that D looks at, [b, C, R, R] in [-1, 1], and whose they are.

    purpose: which random numbers make the bottleneck's noise, and with AUGMENT the augmentation; reals, c: the reals of
    the pass and its code, [b, c_dim].
    """

    images: Tensor
    purpose: Purpose
    reals: Reals
    c: Tensor


class ForwardPasses:
    """Passes through G(z, resolution, alpha), D(x, noise, tangent, c, y, alpha) and q(images).

    q gives (mean, logvar) of images in [-1, 1]: the frozen encoder where code_source is posterior, else None.
    augmenter: of the images that D sees. Gradients at images, tangents and penalties are those at the images before it.
    """

    def __init__(
        self, g: nn.Module, d: nn.Module, q: nn.Module | None, config: GanConfig, augmenter: Augmenter
    ) -> None:
        self.g, self.d, self.q, self.config, self.augmenter = g, d, q, config, augmenter

    @record_function("code")
    @torch.no_grad()
    def code(self, reals: Reals) -> Tensor:
        """Draw c ~ N(0, I), or c ~ q(c|x) of these reals: samples of the aggregated posterior. [b, c_dim]"""
        eps = self._normal(Purpose.CODE, reals, (self.config.c_dim,))
        if self.config.code_source != "posterior":
            return eps
        assert self.q is not None
        mean, logvar = self.q(reals.encoder_images)
        return sample_posterior(mean, logvar, eps)

    def generate(self, purpose: Purpose, reals: Reals, c: Tensor) -> Tensor:
        """Return G([s, c]), with labels G([s, y, c]), at the resolution R and the alpha of the reals: [b, C, R, R].

        purpose: which random numbers make s. y is that of the reals.
        """
        s = self._normal(purpose, reals, (self.config.s_dim,))
        z = torch.cat((s, c) if reals.y is None else (s, reals.y, c), dim=1)
        with autocast(self.config, z):
            return self.g(z, reals.images.shape[-1], reals.alpha)

    def discriminate(self, x: Judged, tangent: Tensor | None = None) -> DiscriminatorOutput:
        """Return D of images, their code and the bottleneck's noise. With a tangent it computes in full precision."""
        augmentation = self._augmentation(x)
        images, tangent = augmentation(x.images), None if tangent is None else augmentation.along(tangent)
        region = nullcontext() if tangent is None else record_function("R1 pass 2")
        with region, autocast(self.config, images, tangent is None):
            return self.d(images, tangent=tangent, **self._discriminator_inputs(x))

    @record_function("D paired")
    @torch.no_grad()
    def paired_logits(self, x: Judged) -> Tensor:
        """Return D's logits of the images that the relativistic objective compares others with, [b]."""
        return self.discriminate(x).logits

    @record_function("R1 pass 1")
    def image_gradient(self, x: Judged) -> Tensor:
        """Return D's gradient at the images, [b, C, R, R]: the first pass of R1 or R2.

        D must be frozen. Its noise and code are those of its other pass through them.
        """
        augmentation = self._augmentation(x)
        with torch.no_grad():
            images = augmentation(x.images)
        return augmentation.back(losses.image_gradient(self.d, images, **self._discriminator_inputs(x)))

    def add_penalised_gradients(
        self, x: Judged, loss: Callable[[DiscriminatorOutput], Tensor], weight: float
    ) -> tuple[DiscriminatorOutput, Tensor]:
        """Add the gradients of loss(D(x)) + weight * mean_b ||grad_x D(x_b)||^2 to D. In full precision.

        Returns D(x), and the penalty without its weight.
        """
        d, inputs = cast(ConvDiscriminator | Discriminator, self.d), self._discriminator_inputs(x)
        return r1.add_gradients(d, x.images, loss, weight, self._augmentation(x), **inputs)

    def _augmentation(self, x: Judged) -> Augmentation:
        return self.augmenter.augmentation(AUGMENT[x.purpose], x.reals.positions, x.images)

    def _discriminator_inputs(self, x: Judged) -> dict[str, Tensor | None]:
        """Return D's inputs besides the image: its bottleneck's noise, cGAN's code, the labels, the fade's alpha."""
        bottleneck = self.config.bottleneck
        noise = None  # D sees the bottleneck's mean
        if bottleneck and (bottleneck.sample_in_g_step or x.purpose not in G_STEP):
            noise = self._normal(x.purpose, x.reals, cast(tuple[int, ...], self.d.noise_shape))
        c = x.c if self.config.d_sees_code else None
        return {"noise": noise, "c": c, "y": x.reals.y, "alpha": x.reals.alpha}

    def _normal(self, purpose: Purpose, reals: Reals, shape: tuple[int, ...]) -> Tensor:
        return normal(self.config.seed, purpose, reals.positions, shape).to(reals.images.dtype)
