"""Forward passes of stage 2 with their inputs besides the image: random numbers, code, alpha, precision.

Every random number is a function of (seed, purpose, position).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from common.random_numbers import Purpose, normal
from models import ConvDiscriminator, Discriminator, DiscriminatorOutput, sample_posterior
from trainer.config.schema import GanConfig

from . import losses, r1
from .autocast import autocast
from .batches import Reals


class ForwardPasses:
    """Passes through G(z, resolution, alpha), D(x, noise, tangent, c, alpha) and q(images).

    q gives (mean, logvar) of images in [-1, 1]: the frozen encoder where code_source is posterior, else None.
    """

    def __init__(self, g: nn.Module, d: nn.Module, q: nn.Module | None, config: GanConfig) -> None:
        self.g, self.d, self.q, self.config = g, d, q, config

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
        """Return G([s, c]) at the resolution R and the alpha of the reals: [b, C, R, R].

        purpose: which random numbers make s.
        """
        z = torch.cat((self._normal(purpose, reals, (self.config.s_dim,)), c), dim=1)
        with autocast(self.config, z):
            return self.g(z, reals.images.shape[-1], reals.alpha)

    def discriminate(
        self, x: Tensor, purpose: Purpose, reals: Reals, c: Tensor, tangent: Tensor | None = None
    ) -> DiscriminatorOutput:
        """Return D of images, their code and the bottleneck's noise. With a tangent it computes in full precision."""
        region = nullcontext() if tangent is None else record_function("R1 pass 2")
        with region, autocast(self.config, x, tangent is None):
            return self.d(x, tangent=tangent, **self._discriminator_inputs(purpose, reals, c))

    @record_function("R1 pass 1")
    def image_gradient(self, reals: Reals, c: Tensor) -> Tensor:
        """Return D's gradient at the reals, [b, C, R, R]: R1's first pass.

        D must be frozen. Its noise and code are those of its other pass through the reals.
        """
        return losses.image_gradient(
            self.d, reals.images, **self._discriminator_inputs(Purpose.BOTTLENECK_REAL, reals, c)
        )

    @record_function("D real")
    def add_r1_gradients(
        self, reals: Reals, c: Tensor, loss: Callable[[DiscriminatorOutput], Tensor], weight: float
    ) -> tuple[DiscriminatorOutput, Tensor]:
        """Add the gradients of loss(D(reals)) + weight * R1 to D, and return D(reals) and R1. In full precision."""
        inputs = self._discriminator_inputs(Purpose.BOTTLENECK_REAL, reals, c)
        return r1.add_gradients(cast(ConvDiscriminator | Discriminator, self.d), reals.images, loss, weight, **inputs)

    def _discriminator_inputs(self, purpose: Purpose, reals: Reals, c: Tensor) -> dict[str, Tensor | None]:
        """Return D's inputs besides the image: its bottleneck's noise, cGAN's code, the fade's alpha."""
        bottleneck = self.config.bottleneck
        noise = None  # D sees the bottleneck's mean
        if bottleneck and (bottleneck.sample_in_g_step or purpose != Purpose.BOTTLENECK_G):
            noise = self._normal(purpose, reals, cast(tuple[int, ...], self.d.noise_shape))
        return {"noise": noise, "c": c if self.config.d_sees_code else None, "alpha": reals.alpha}

    def _normal(self, purpose: Purpose, reals: Reals, shape: tuple[int, ...]) -> Tensor:
        return normal(self.config.seed, purpose, reals.positions, shape).to(reals.images.dtype)
