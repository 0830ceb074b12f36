"""One iteration of stage 1 (Table A.2): VAE (beta is 1), beta-VAE, or FactorVAE (with a critic)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.profiler import record_function

from common.random_numbers import Purpose, bits, normal
from models import VAE
from trainer.config.schema import VaeConfig
from trainer.distributed.engines.base import set_learning_rate
from trainer.distributed.engines.ddp import Replicated
from trainer.distributed.world import World

from . import losses, schedule
from .autocast import autocast
from .batches import VaeBatch
from .running_means import Terms

RECONSTRUCTION = {"bernoulli": losses.bernoulli_reconstruction, "gaussian": losses.gaussian_reconstruction}


class VaeStep:
    """loss = reconstruction + beta * KL [+ gamma * total correlation]; then the critic's own step on a second batch.

    One optimizer step each. The critic learns from detached codes in a forward pass of its own, so that no graph
    reaches back to weights that the VAE's step has changed. The term active_latents is the number of
    latents whose mean KL over the global batch is above 0.01 nat.
    """

    def __init__(self, vae: VAE, engine: Replicated, critic: Replicated | None, config: VaeConfig) -> None:
        self.vae, self.engine, self.critic, self.config = vae, engine, critic, config
        self.terms: tuple[str, ...] = ("loss", "reconstruction", "kl", "active_latents", "beta", "grad_norm")
        if critic is not None:
            self.terms += ("total_correlation", "loss_critic", "grad_norm_critic")
            critic.freeze()

    def __call__(self, batches: Sequence[VaeBatch], second: Sequence[VaeBatch], images_seen: int) -> Terms:
        """Train the VAE and the critic once, and return the terms that `self.terms` names.

        batches: this process's micro-batches; second: those of FactorVAE's permuted batch; images_seen: the clock
        before this iteration.
        """
        terms = Terms()
        set_learning_rate(self.engine, schedule.learning_rate(self.config.optimizer, images_seen))
        if self.critic is not None and self.config.optimizer_critic is not None:
            set_learning_rate(self.critic, schedule.learning_rate(self.config.optimizer_critic, images_seen))
        codes = self._vae_pass(batches, schedule.beta(self.config.beta, images_seen), terms)
        terms["grad_norm"] = self.engine.step()
        if self.critic is not None:
            self._critic_pass(self.critic, codes, second, terms)
            terms["grad_norm_critic"] = self.critic.step()
        return terms

    @record_function("VAE")
    def _vae_pass(self, batches: Sequence[VaeBatch], beta: float, terms: Terms) -> Tensor:
        """Add the gradients of the VAE, the critic frozen. Returns this process's codes, detached: [b, c_dim]."""
        share = 1 / len(batches)
        codes: list[Tensor] = []
        divergence = torch.zeros(self.config.c_dim, device=batches[0].x.device, dtype=batches[0].x.dtype)
        for batch in batches:
            with autocast(self.config, batch.x):
                logits, c, mean, logvar = self.vae(batch.x, self._eps(batch))
            reconstruction = RECONSTRUCTION[self.config.likelihood](logits, batch.x)
            kl = losses.kl_per_latent(mean, logvar)
            loss = reconstruction + beta * kl.sum()
            if self.critic is not None:
                correlation = losses.total_correlation(self._judge(self.critic, c))
                loss = loss + self.config.gamma * correlation
                terms.add(share, total_correlation=correlation)
            self.engine.backward(loss * share)
            terms.add(share, loss=loss, reconstruction=reconstruction, kl=kl.sum())
            divergence = divergence + kl.detach() * share
            codes.append(c.detach())
        divergence = self.engine.world.all_reduce_mean_(divergence)
        terms["active_latents"] = (divergence > 0.01).sum().to(divergence.dtype)
        terms["beta"] = torch.full((), beta, device=divergence.device)
        return torch.cat(codes)

    @record_function("critic")
    def _critic_pass(self, critic: Replicated, codes: Tensor, second: Sequence[VaeBatch], terms: Terms) -> None:
        """Add the critic's gradients: codes of the first batch against permuted dims of the second, by the new q."""
        with torch.no_grad(), autocast(self.config, codes):
            drawn = torch.cat([self.vae.draw(b.x, self._eps(b)) for b in second])
        permuted = self._permuted(drawn, torch.cat([b.positions for b in second]), critic.world)
        critic.unfreeze()
        loss = losses.critic(self._judge(critic, codes), self._judge(critic, permuted))
        critic.backward(loss)
        critic.freeze()
        terms.add(1, loss_critic=loss)

    def _judge(self, critic: Replicated, c: Tensor) -> Tensor:
        with autocast(self.config, c):
            logits: Tensor = critic.network(c)
        return logits.to(c.dtype)  # under autocast they come in bf16

    def _permuted(self, c: Tensor, positions: Tensor, world: World) -> Tensor:
        """Permute the dims of the global batch, by keys that depend on position, and return this process's rows."""
        keys = bits(self.config.seed, Purpose.PERMUTED_DIMS, world.all_gather_rows(positions), self.config.c_dim)
        first = world.rank * len(c)
        return losses.permute_dims(world.all_gather_rows(c), keys)[first : first + len(c)]

    def _eps(self, batch: VaeBatch) -> Tensor:
        noise = normal(self.config.seed, Purpose.VAE_CODE, batch.positions, (self.config.c_dim,))
        return noise.to(batch.x.dtype)
