"""One iteration of stage 2, in the order of the paper. The five GANs are settings of it (config.schema.SYSTEMS)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from common.random_numbers import Purpose
from models import DiscriminatorOutput
from trainer.config.schema import GanConfig
from trainer.distributed.engines.base import Engine, set_learning_rate

from . import losses, schedule
from .batches import Reals
from .ema import Averages
from .forward_passes import ForwardPasses
from .kl_constraint import KLConstraint
from .running_means import Terms

TERMS = ("loss_d_real", "loss_d_fake", "r1", "loss_g", "logit_real", "logit_fake", "grad_norm_d", "grad_norm_g")


class GanStep:
    """A code, a discriminator step, the bottleneck's beta, a generator step with the same code, the averages.

    passes: forward passes through the networks of g and d. q gives (mean, logvar) of images in [-1, 1] for the code
    loss, and is None where there is none. InfoGAN's is trained with G by the engine joint_q; ID-GAN's is frozen.
    """

    def __init__(
        self,
        g: Engine,
        d: Engine,
        q: nn.Module | None,
        joint_q: Engine | None,
        averages: Averages,
        kl_constraint: KLConstraint,
        passes: ForwardPasses,
        config: GanConfig,
    ) -> None:
        self.g, self.d, self.q, self.joint_q, self.averages = g, d, q, joint_q, averages
        self.kl_constraint, self.passes, self.config = kl_constraint, passes, config
        self.learning_rates = [(g, config.optimizer_g), (d, config.optimizer_d)]
        if joint_q is not None and config.optimizer_q is not None:
            self.learning_rates.append((joint_q, config.optimizer_q))
        optional = {"code_nll": q, "grad_norm_q": joint_q}
        self.terms = (*TERMS, *(name for name, part in optional.items() if part is not None), *kl_constraint.names)
        self.d.freeze()

    def __call__(self, batches: Sequence[Reals], r1_weight: float, images_seen: int, batch_size: int) -> Terms:
        """Train D, the bottleneck's beta and G once, and return the terms that `self.terms` names.

        batches: this process's micro-batches; r1_weight: 0 where R1 is not due; images_seen: the clock before this
        iteration; batch_size: global.
        """
        terms = Terms()
        share = 1 / len(batches)
        for engine, optimizer in self.learning_rates:
            set_learning_rate(engine, schedule.learning_rate(optimizer, images_seen))
        codes = [self.passes.code(reals) for reals in batches]

        for i, (reals, c) in enumerate(zip(batches, codes, strict=True), start=1):
            self._discriminator_pass(reals, c, r1_weight, share, i == len(batches), terms)
        terms["grad_norm_d"] = self.d.step()
        self.kl_constraint.step(terms)

        for i, (reals, c) in enumerate(zip(batches, codes, strict=True), start=1):
            self._generator_pass(reals, c, share, i == len(batches), terms)
        terms["grad_norm_g"] = self.g.step()
        if self.joint_q:
            terms["grad_norm_q"] = self.joint_q.step()

        self.averages.update(images_seen + batch_size, batch_size)
        return terms

    @property
    def r1_in_one_pass(self) -> bool:
        """Whether D's loss on the reals and R1 share a forward pass (trainer/steps/r1.py)."""
        return self.d.adds_gradients and not (self.config.compile or self.config.checkpointing)

    def _discriminator_pass(
        self, reals: Reals, c: Tensor, r1_weight: float, share: float, last: bool, terms: Terms
    ) -> None:
        """Add the gradients of softplus(-D(x)) + softplus(D(G(s, c))) + r1 * ||grad_x D(x)||^2 of one micro-batch to D.

        A bottleneck adds beta * KL, the mean of real and fake. cGAN's D sees the pairs (x, c), where c ~ q(c|x), and
        (G(s, c), c). Reals and fakes go backward one after the other, which halves the activations that are alive.
        """
        real, r1 = self._real_pass(reals, c, r1_weight, share)
        loss_real = losses.discriminator_real(real.logits)

        with record_function("D fake"):
            with torch.no_grad():
                fakes = self.passes.generate(Purpose.NUISANCE_D, reals, c)
            fake = self.passes.discriminate(fakes, Purpose.BOTTLENECK_FAKE, reals, c)
            loss_fake = losses.discriminator_fake(fake.logits)
            self.d.backward((loss_fake + self.kl_constraint.penalty(fake)) * share, last)
        self.d.freeze()

        reported_r1 = r1 * r1_weight / (self.config.r1 or 1)  # so that with lazy R1 the mean over a tick is R1
        terms.add(share, loss_d_real=loss_real, loss_d_fake=loss_fake, r1=reported_r1)
        terms.add(share, logit_real=real.logits.mean(), logit_fake=fake.logits.mean())
        terms.add(share, **self.kl_constraint.metrics(real, fake))

    def _real_pass(self, reals: Reals, c: Tensor, r1_weight: float, share: float) -> tuple[DiscriminatorOutput, Tensor]:
        """Add the gradients of softplus(-D(x)) + r1 * ||grad_x D(x)||^2 to D -> (D(x), ||grad_x D(x)||^2)."""

        def loss(real: DiscriminatorOutput) -> Tensor:
            return (losses.discriminator_real(real.logits) + self.kl_constraint.penalty(real)) * share

        if r1_weight and self.r1_in_one_pass:
            self.d.unfreeze()
            return self.passes.add_r1_gradients(reals, c, loss, r1_weight * share)
        gradient = self.passes.image_gradient(reals, c) if r1_weight else None
        self.d.unfreeze()
        with record_function("D real"):
            real = self.passes.discriminate(reals.images, Purpose.BOTTLENECK_REAL, reals, c, gradient)
            r1 = real.logits.new_zeros(()) if real.tangent is None else losses.r1_penalty(real.tangent)
            self.d.backward(loss(real) + r1_weight * share * r1)
        return real, r1

    @record_function("G")
    def _generator_pass(self, reals: Reals, c: Tensor, share: float, last: bool, terms: Terms) -> None:
        """Add the gradients of softplus(-D(G(s', c))) - lambda * log q(c|G(s', c)) of one micro-batch to G.

        s' is new, c is that of the discriminator step. InfoGAN's q learns from the second term too.
        """
        fakes = self.passes.generate(Purpose.NUISANCE_G, reals, c)
        loss = losses.generator(self.passes.discriminate(fakes, Purpose.BOTTLENECK_G, reals, c).logits)
        terms.add(share, loss_g=loss)
        if self.q is not None:
            with record_function("distillation"):
                nll = losses.code_nll(c, *self.q(fakes))
            terms.add(share, code_nll=nll)
            loss = loss + self.config.code_weight * nll
        self.g.backward(loss * share, last)
