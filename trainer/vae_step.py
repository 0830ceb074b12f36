"""One iteration of stage 1: the beta-VAE (Table A.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from data_shards.noise import Purpose, normal
from models import VAE

from . import losses, schedule
from .batches import VaeBatch
from .config import VaeConfig
from .engines.ddp import Replicated
from .stats import Terms

RECONSTRUCTION = {"bernoulli": losses.bernoulli_reconstruction, "gaussian": losses.gaussian_reconstruction}


class VaeStep:
    """loss = reconstruction + beta * KL, one optimizer step. active_latents carry more than 0.01 nat of KL."""

    terms = ("loss", "reconstruction", "kl", "active_latents", "beta", "grad_norm")

    def __init__(self, vae: VAE, engine: Replicated, config: VaeConfig) -> None:
        self.vae, self.engine, self.config = vae, engine, config

    def __call__(self, batches: Sequence[VaeBatch], images_seen: int) -> Terms:
        """batches: this process's micro-batches of one iteration; images_seen: the clock before it."""
        terms = Terms()
        beta = schedule.beta(self.config.beta, images_seen)
        share = 1 / len(batches)
        divergence = torch.zeros(self.config.c_dim, device=batches[0].x.device, dtype=batches[0].x.dtype)
        for batch in batches:
            eps = normal(self.config.seed, Purpose.VAE_CODE, batch.positions, (self.config.c_dim,)).to(batch.x.dtype)
            logits, mean, logvar = self.vae(batch.x, eps)
            reconstruction = RECONSTRUCTION[self.config.likelihood](logits, batch.x)
            kl = losses.kl_per_latent(mean, logvar)
            loss = reconstruction + beta * kl.sum()
            (loss * share).backward()
            terms.add("loss", loss, share)
            terms.add("reconstruction", reconstruction, share)
            terms.add("kl", kl.sum(), share)
            divergence = divergence + kl.detach() * share
        terms["active_latents"] = (divergence > 0.01).sum().to(divergence.dtype)
        terms["beta"] = torch.full((), beta, device=terms["kl"].device)
        terms["grad_norm"] = self.engine.step()
        return terms
