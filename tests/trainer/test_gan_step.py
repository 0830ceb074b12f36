"""One iteration of ID-GAN against a plain re-derivation: double backward, no helper of ours, float64."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_shards.noise import Purpose, normal
from models import VAE, CodeEncoder, ConvDiscriminator, ConvGenerator, freeze
from trainer import ema
from trainer.batches import Reals
from trainer.config import GanConfig
from trainer.engines.ddp import Replicated
from trainer.gan_step import GanStep
from trainer.world import World

SEED, B, S, C = 5, 6, 3, 4
ALONE = World(0, 1, torch.device("cpu"), None)


def plain_iteration(
    G: nn.Module, D: nn.Module, encoder: nn.Module, average: nn.Module, x: Tensor, positions: Tensor, config: GanConfig
) -> None:
    """id-GAN's iteration as the authors order it, on networks that it changes."""
    draw = {p: normal(SEED, p, positions, (n,)).double() for p, n in
            ((Purpose.CODE, C), (Purpose.NUISANCE_D, S), (Purpose.NUISANCE_G, S))}  # fmt: skip
    opt_g = torch.optim.RMSprop(G.parameters(), lr=1e-3, alpha=0.99, eps=1e-8)
    opt_d = torch.optim.RMSprop(D.parameters(), lr=1e-4, alpha=0.99, eps=1e-8)
    with torch.no_grad():
        mu, logvar = encoder((x + 1) / 2)
        c = mu + torch.exp(0.5 * logvar) * draw[Purpose.CODE]
        fake = G(torch.cat([draw[Purpose.NUISANCE_D], c], 1))
    real = x.clone().requires_grad_()
    d_real, d_fake = D(real).logits, D(fake).logits
    (g,) = torch.autograd.grad(d_real.sum(), real, create_graph=True)
    penalty = g.pow(2).reshape(B, -1).sum(1).mean()
    loss_d = torch.log1p(torch.exp(-d_real)).mean() + torch.log1p(torch.exp(d_fake)).mean() + config.r1 * penalty
    opt_d.zero_grad()
    loss_d.backward()
    opt_d.step()
    fake = G(torch.cat([draw[Purpose.NUISANCE_G], c], 1))
    mu, logvar = encoder((fake + 1) / 2)
    nll = 0.5 * (math.log(2 * math.pi) + logvar + (c - mu) ** 2 / (torch.exp(logvar) + 1e-8))
    loss_g = F.softplus(-D(fake).logits).mean() + config.code_weight * nll.sum(1).mean()
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    with torch.no_grad():
        for a, p in zip(average.parameters(), G.parameters(), strict=True):
            a.copy_(config.ema_decay * a + (1 - config.ema_decay) * p)


def test_an_iteration_equals_a_plain_rederivation() -> None:
    torch.manual_seed(0)
    config = GanConfig.model_validate(
        {
            "vae": "x", "seed": SEED, "c_dim": C, "s_dim": S, "code_weight": 0.1, "r1": 10, "batch_size": B,
            "data": {"path": "x"}, "schedule": {"total_kimg": 1},
        }
    )  # fmt: skip
    G, D = ConvGenerator(S + C, 1).double(), ConvDiscriminator(1).double()
    encoder = VAE(1, C, "default").double().encoder
    average = ema.clone(G)
    plain = [copy.deepcopy(net) for net in (G, D, encoder, average)]
    x = torch.rand(B, 1, 64, 64, dtype=torch.float64) * 2 - 1
    g = Replicated(G, torch.optim.RMSprop(G.parameters(), 1e-3, 0.99, 1e-8), ALONE)
    d = Replicated(D, torch.optim.RMSprop(D.parameters(), 1e-4, 0.99, 1e-8), ALONE)
    frozen = CodeEncoder(encoder)
    freeze(frozen)
    step = GanStep(g, d, frozen, average, config)
    positions = torch.arange(B) + 1000
    step([Reals(positions, x, x)])
    plain_iteration(*plain, x, positions, config)
    for ours, theirs in zip((G, D, average), (plain[0], plain[1], plain[3]), strict=True):
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert float((a - b).norm()) / max(float(b.norm()), 1e-8) < 1e-9, name
    for a, b in zip(encoder.parameters(), plain[2].parameters(), strict=True):
        assert torch.equal(a, b), "the frozen encoder moved"
