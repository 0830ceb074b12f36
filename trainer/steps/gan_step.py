"""One iteration of stage 2, in the order of the paper. The five GANs are settings of it (config.schema.SYSTEMS)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

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
from .forward_passes import ForwardPasses, Judged
from .kl_constraint import KLConstraint
from .running_means import Terms

TERMS = ("loss_d_real", "loss_d_fake", "r1", "loss_g", "logit_real", "logit_fake", "grad_norm_d", "grad_norm_g")

Adversarial = Callable[[Tensor, Tensor | None], Tensor]  # loss of D's logits and of those that they are paired with


class Penalties(NamedTuple):
    """Weights of ||grad_x D(x)||^2 in one iteration, at reals (R1) and at fakes (R2); 0 where none is due."""

    r1: float
    r2: float = 0.0


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
        optional = {"r2": config.r2 or None, "code_nll": q, "grad_norm_q": joint_q}
        present = (name for name, part in optional.items() if part is not None)
        self.terms = (*TERMS, *present, *kl_constraint.names, *passes.augmenter.names)
        self.d.freeze()

    def __call__(self, batches: Sequence[Reals], weights: Penalties, images_seen: int, batch_size: int) -> Terms:
        """Train D, the bottleneck's beta and G once, and return the terms that `self.terms` names.

        batches: this process's micro-batches; images_seen: the clock before this iteration; batch_size: global.
        """
        terms = Terms()
        share = 1 / len(batches)
        for engine, optimizer in self.learning_rates:
            set_learning_rate(engine, schedule.learning_rate(optimizer, images_seen))
        codes = [self.passes.code(reals) for reals in batches]

        for i, (reals, c) in enumerate(zip(batches, codes, strict=True), start=1):
            self._discriminator_pass(reals, c, weights, share, i == len(batches), terms)
        terms["grad_norm_d"] = self.d.step()
        self.kl_constraint.step(terms)

        for i, (reals, c) in enumerate(zip(batches, codes, strict=True), start=1):
            self._generator_pass(reals, c, share, i == len(batches), terms)
        terms["grad_norm_g"] = self.g.step()
        if self.joint_q:
            terms["grad_norm_q"] = self.joint_q.step()

        self.passes.augmenter.step(terms, batch_size)
        self.averages.update(images_seen + batch_size, batch_size)
        return terms

    def _discriminator_pass(
        self, reals: Reals, c: Tensor, weights: Penalties, share: float, last: bool, terms: Terms
    ) -> None:
        """Add the gradients of softplus(-D(x)) + softplus(D(G(s, c))) + r1 * ||grad_x D(x)||^2 of one micro-batch to D.

        A bottleneck adds beta * KL, the mean of real and fake. cGAN's D sees the pairs (x, c), where c ~ q(c|x), and
        (G(s, c), c). Reals and fakes go backward one after the other, which halves the activations that are alive. The
        relativistic objective, softplus(D(G(s, c)) - D(x)), takes each side's gradient with the other side held fixed.
        """
        x = Judged(reals.images, Purpose.BOTTLENECK_REAL, reals, c)
        fakes = self._fakes(reals, c) if self.relativistic else None
        paired = None if fakes is None else self.passes.paired_logits(fakes)
        with record_function("D real"):
            real, loss_real, r1 = self._add_gradients(x, losses.discriminator_real, paired, weights.r1, share)
        terms.add(share, **self.passes.augmenter.metrics(real.logits, paired))
        if fakes is None:  # only now: the pass through the reals needs the most memory
            fakes = self._fakes(reals, c)
        else:
            paired = real.logits.detach()
        with record_function("D fake"):
            fake, loss_fake, r2 = self._add_gradients(fakes, losses.discriminator_fake, paired, weights.r2, share, last)

        terms.add(share, loss_d_real=loss_real, loss_d_fake=loss_fake, r1=_over_a_tick(r1, weights.r1, self.config.r1))
        terms.add(share, logit_real=real.logits.mean(), logit_fake=fake.logits.mean())
        terms.add(share, **self.kl_constraint.metrics(real, fake))
        if self.config.r2:
            terms.add(share, r2=_over_a_tick(r2, weights.r2, self.config.r2))

    @record_function("fakes")
    @torch.no_grad()
    def _fakes(self, reals: Reals, c: Tensor) -> Judged:
        """Make the generated images of D's step: G(s, c), with no gradient in G."""
        images = self.passes.generate(Purpose.NUISANCE_D, reals, c)
        return Judged(images, Purpose.BOTTLENECK_FAKE, reals, c)

    def _add_gradients(
        self,
        x: Judged,
        adversarial: Adversarial,
        paired: Tensor | None,
        weight: float,
        share: float,
        last: bool = False,
    ) -> tuple[DiscriminatorOutput, Tensor, Tensor]:
        """Add the gradients of D's loss on reals or fakes + weight * ||grad_x D(x)||^2 to D.

        Returns D(x), the adversarial loss and the penalty without its weight, 0 where it is not due.
        """

        def loss(output: DiscriminatorOutput) -> Tensor:
            return (adversarial(output.logits, paired) + self.kl_constraint.penalty(output)) * share

        if weight and self.penalty_in_one_pass:
            self.d.unfreeze()
            output, penalty = self.passes.add_penalised_gradients(x, loss, weight * share)
        else:
            gradient = self.passes.image_gradient(x) if weight else None
            self.d.unfreeze()
            output = self.passes.discriminate(x, gradient)
            tangent = output.tangent
            penalty = output.logits.new_zeros(()) if tangent is None else losses.gradient_penalty(tangent)
            self.d.backward(loss(output) + weight * share * penalty, last)
        self.d.freeze()
        return output, adversarial(output.logits, paired), penalty

    @property
    def relativistic(self) -> bool:
        """Whether D and G compare each real with a fake."""
        return self.config.objective == "relativistic"

    @property
    def penalty_in_one_pass(self) -> bool:
        """Whether D's loss and R1 (or R2) share a forward pass (trainer/steps/r1.py)."""
        return self.d.adds_gradients and not (self.config.compile or self.config.checkpointing)

    @record_function("G")
    def _generator_pass(self, reals: Reals, c: Tensor, share: float, last: bool, terms: Terms) -> None:
        """Add the gradients of softplus(-D(G(s', c))) - lambda * log q(c|G(s', c)) of one micro-batch to G.

        s' is new, c is that of the discriminator step. The relativistic objective is softplus(D(x) - D(G(s', c))).
        InfoGAN's q learns from the second term too.
        """
        x = Judged(reals.images, Purpose.BOTTLENECK_G_REAL, reals, c)
        paired = self.passes.paired_logits(x) if self.relativistic else None
        fakes = self.passes.generate(Purpose.NUISANCE_G, reals, c)
        logits = self.passes.discriminate(Judged(fakes, Purpose.BOTTLENECK_G, reals, c)).logits
        loss = losses.generator(logits, paired)
        terms.add(share, loss_g=loss)
        if self.q is not None:
            with record_function("distillation"):
                nll = losses.code_nll(c, *self.q(fakes))
            terms.add(share, code_nll=nll)
            loss = loss + self.config.code_weight * nll
        self.g.backward(loss * share, last)


def _over_a_tick(penalty: Tensor, weight: float, configured: float) -> Tensor:
    """Return what to report of a penalty, so that its mean over a tick is right where it is lazy."""
    return penalty * weight / (configured or 1)
