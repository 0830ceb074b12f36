"""The paper's eight systems written again, plainly: losses by hand, R1 by double backward, one whole batch, float64.

These iterations share with the trainer the random numbers (`normal`, `bits`) and the networks: Table A.3's as
containers of parameters, the ResNets also as functions (tests/models/test_resnet.py writes those out). The settings,
weights and batches that tests give to both sides are here too.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer, RMSprop

from common.random_numbers import Purpose, bits, normal
from models import VAE, CodeEncoder, ConvDiscriminator, ConvGenerator, Discriminator, Encoder, Generator, freeze
from trainer.config.rules import contradictions
from trainer.config.schema import GanConfig, VaeConfig
from trainer.config.sections import AverageConfig
from trainer.distributed.engines.choice import engine
from trainer.distributed.engines.ddp import Replicated
from trainer.distributed.world import World
from trainer.steps import ema, networks
from trainer.steps.augment.augmenter import Augmenter
from trainer.steps.batches import Reals, VaeBatch
from trainer.steps.forward_passes import ForwardPasses
from trainer.steps.gan_step import GanStep
from trainer.steps.kl_constraint import KLConstraint
from trainer.steps.vae_step import VaeStep

SEED, BATCH, C, ITERATIONS = 5, 8, 4, 2
DECAY, CODE_WEIGHT = 0.9, 0.1
ALONE = World(0, 1, torch.device("cpu"), None)
Found = dict[str, Tensor]
T = TypeVar("T", Reals, VaeBatch)

GANS = {
    "GAN": {"code_source": "none", "code_loss": "none", "code_weight": 0, "s_dim": 5, "c_dim": 0},
    "InfoGAN": {"code_source": "prior", "code_loss": "info", "optimizer_q": {"name": "rmsprop", "lr": 5e-4}},
    "cGAN": {"code_loss": "none", "code_weight": 0, "d_sees_code": True, "vae": "x"},
    "ID-GAN without distillation": {"code_loss": "none", "code_weight": 0, "vae": "x"},
    "ID-GAN": {"vae": "x"},
}
VAES = {
    "VAE": {},
    "beta-VAE": {"beta": {"value": 8, "schedule": [[0, 2], [0.016, 8]]}},
    "FactorVAE": {"gamma": 10, "optimizer_critic": {"lr": 2e-4, "betas": [0.5, 0.9]}},
}
BETAS = {"VAE": (1.0, 1.0), "beta-VAE": (2.0, 5.0), "FactorVAE": (1.0, 1.0)}  # the second iteration begins at 8 images


@dataclass
class Gan:
    """G, D, what q sees 64 px images in [0, 1] with, and G's average."""

    G: nn.Module
    D: nn.Module
    q: Encoder
    average: nn.Module

    def trained(self, system: str) -> dict[str, nn.Module]:
        """Every network that an iteration changes."""
        return {"G": self.G, "D": self.D, "average": self.average} | ({"q": self.q} if system == "InfoGAN" else {})


def gan_config(system: str, **more: object) -> GanConfig:
    """A system's settings: s_dim 3 where there is a code besides."""
    shared = {"seed": SEED, "batch_size": BATCH, "data": {"path": "x"}, "schedule": {"total_kimg": 1}}
    shared |= {"s_dim": 3, "c_dim": C, "r1": 10, "code_weight": CODE_WEIGHT, "ema": {"averages": [{"decay": DECAY}]}}
    config = GanConfig.model_validate(shared | GANS[system] | more)
    assert config.system == system
    assert contradictions(config) == []
    return config


def vae_config(system: str, **more: object) -> VaeConfig:
    """A system's settings."""
    shared = {"seed": SEED, "batch_size": BATCH, "data": {"path": "x"}, "schedule": {"total_kimg": 1}, "c_dim": C}
    config = VaeConfig.model_validate(shared | VAES[system] | more)
    assert config.system == system
    assert contradictions(config) == []
    return config


def encoder(channels: int) -> Encoder:
    """q whose means and variances differ clearly from image to image."""
    q = Encoder(channels, C).double()
    with torch.no_grad():
        q.layers[-1].weight *= 20
    return q


def clone(network: nn.Module) -> nn.Module:
    """A frozen copy to average into."""
    return copy.deepcopy(network).requires_grad_(False)


def averages_of(network: nn.Module, settings: Sequence[AverageConfig]) -> ema.Averages:
    """Of a network in one process, which shares its weights with it."""
    return ema.Averages(Replicated("generator", network, lambda n: RMSprop(n.parameters()), ALONE), settings)


def gan_networks(system: str, y_dim: int = 0) -> Gan:
    """Table A.3's, with the same weights at every call."""
    torch.manual_seed(0)
    z_dim, pairs = (5 if system == "GAN" else 3 + C) + y_dim, (C if system == "cGAN" else 0)
    G, D = ConvGenerator(z_dim, 1).double(), ConvDiscriminator(1, pairs, y_dim).double()
    return Gan(G, D, encoder(1), clone(G))


def vae_networks(system: str) -> tuple[VAE, nn.Module | None]:
    """Table A.2's VAE and, for FactorVAE, a small critic, with the same weights at every call."""
    torch.manual_seed(0)
    vae = VAE(1, C, "default").double()
    vae.encoder = encoder(1)
    critic = nn.Sequential(nn.Linear(C, 30), nn.LeakyReLU(0.2), nn.Linear(30, 2)).double()
    return vae, critic if system == "FactorVAE" else None


def grown_config(system: str, **more: object) -> GanConfig:
    """With ResNets of 16 px that grow from 4, and a bottleneck."""
    shape = {"name": "resnet", "nf": 3, "nf_max": 6}
    growth = {"start_resolution": 4, "phase_kimg": 1, "fade_kimg": 1}
    bottleneck = {"information": 0.2, "beta": 0.3, "beta_step": 0.01}
    grown = {"network": shape, "resolution": 16, "growth": growth, "bottleneck": bottleneck}
    return gan_config(system, **{**grown, **more})


def grown_networks(config: GanConfig, y_dim: int = 0) -> Gan:
    """The networks of `grown_config`, with the same weights at every call."""
    G, D = networks.generator(config, 1, y_dim).double(), networks.discriminator(config, 1, y_dim).double()
    torch.manual_seed(0)
    return Gan(G, D, encoder(1), clone(G))


def gan_step(config: GanConfig, gan: Gan, world: World) -> GanStep:
    """The trainer's step on these networks. gan.average becomes the average that it keeps."""
    g = engine(config.strategy, "generator", gan.G, partial(networks.optimizer, config.optimizer_g), world)
    optimizer_d, kept = partial(networks.optimizer, config.optimizer_d), frozenset[str]()
    if config.freeze_d:
        assert isinstance(gan.D, ConvDiscriminator | Discriminator)
        kept = networks.frozen(config, gan.D)
    d = engine(config.strategy, "discriminator", gan.D, optimizer_d, world, kept)
    averages = ema.Averages(g, config.ema.averages)
    if config.strategy == "ddp":
        gan.average = averages.network()
    q, joint_q = CodeEncoder(gan.q), None
    if config.optimizer_q is not None:
        joint_q = Replicated("q", q, partial(networks.optimizer, config.optimizer_q), world)
    else:
        freeze(q)
    augmenter = Augmenter(config.augment, config.seed, world, next(gan.D.parameters()).dtype)
    passes = ForwardPasses(gan.G, gan.D, q if config.vae else None, config, augmenter)
    kl_constraint = KLConstraint(config.bottleneck, world, next(gan.D.parameters()).dtype)
    return GanStep(g, d, q if config.code_loss != "none" else None, joint_q, averages, kl_constraint, passes, config)


def vae_step(config: VaeConfig, vae: VAE, critic: nn.Module | None, world: World) -> VaeStep:
    """The trainer's step on these networks."""
    trained, critic_engine = Replicated("vae", vae, partial(networks.optimizer, config.optimizer), world), None
    if critic is not None and config.optimizer_critic is not None:
        critic_engine = Replicated("critic", critic, partial(networks.optimizer, config.optimizer_critic), world)
    return VaeStep(vae, trained, critic_engine, config)


def gan_batches(channels: int = 1, size: int = 64, alpha: float | None = None, y_dim: int = 0) -> Iterator[Reals]:
    """One for each iteration. The encoder's image is another one, so that it shows which of the two a step looks at.

    y_dim: of label vectors, of which the first image of a batch has none.
    """
    noise = torch.Generator().manual_seed(1)
    for i in range(ITERATIONS):
        shapes = ((BATCH, channels, size, size), (BATCH, channels, 64, 64))
        images, encoder_images = (torch.rand(shape, generator=noise, dtype=torch.float64) * 2 - 1 for shape in shapes)
        fade = None if alpha is None else torch.tensor(alpha, dtype=torch.float64)
        y = torch.zeros(BATCH, y_dim, dtype=torch.float64)
        for b in range(1, BATCH if y_dim else 0):
            y[b, b % y_dim] = 1
        yield Reals(torch.arange(BATCH) + 1000 + i * BATCH, images, encoder_images, fade, y if y_dim else None)


def vae_batches() -> Iterator[tuple[VaeBatch, VaeBatch]]:
    """Two for each iteration: FactorVAE permutes the second."""
    noise = torch.Generator().manual_seed(1)
    x = torch.rand(2 * ITERATIONS, BATCH, 1, 64, 64, generator=noise, dtype=torch.float64)
    whole = [VaeBatch(torch.arange(BATCH) + 1000 + i * BATCH, images) for i, images in enumerate(x)]
    return zip(whole[0::2], whole[1::2], strict=True)


def pieces(batch: T, count: int) -> list[T]:
    """The batch in `count` equal pieces of consecutive rows; what is no row (a fade's alpha) goes into each."""
    parts = [part.chunk(count) if part is not None and part.dim() else [part] * count for part in batch]
    return [type(batch)(*rows) for rows in zip(*parts, strict=True)]


def draw(purpose: Purpose, positions: Tensor, *shape: int) -> Tensor:
    """The normal numbers that the trainer draws, in float64."""
    return normal(SEED, purpose, positions, shape).double()


def posterior(q: Encoder, x: Tensor) -> tuple[Tensor, Tensor]:
    """(mu, logvar) of images in [0, 1], every box of R/64 x R/64 pixels replaced by its mean; small ones enlarged."""
    if x.shape[-1] < 64:
        x = F.interpolate(x, size=64, mode="bilinear", align_corners=False)
    box = x.shape[-1] // 64
    out = q.layers(x.reshape(len(x), -1, 64, box, 64, box).mean((3, 5)))
    return out[:, :C], out[:, C:]


def descend(loss: Tensor, *optimizers: Optimizer) -> list[Tensor]:
    """One step of each optimizer. Returns the norms of their gradients."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    moved = [[p.grad for p in o.param_groups[0]["params"] if p.grad is not None] for o in optimizers]
    norms = [torch.cat([g.flatten() for g in gradients] or [torch.zeros(1)]).pow(2).sum().sqrt() for gradients in moved]
    for optimizer in optimizers:
        optimizer.step()
    return norms


See = Callable[[Tensor, Purpose, Tensor], Tensor]  # images, which random numbers, positions
SEEN = {
    Purpose.BOTTLENECK_REAL: Purpose.AUGMENT_REAL,
    Purpose.BOTTLENECK_FAKE: Purpose.AUGMENT_FAKE,
    Purpose.BOTTLENECK_G: Purpose.AUGMENT_G,
    Purpose.BOTTLENECK_G_REAL: Purpose.AUGMENT_G_REAL,
}


class PlainGan:
    """The five GANs: c; D's step; G's step with the same c and a new s; the average."""

    def __init__(
        self,
        system: str,
        gan: Gan,
        r1: float = 10,
        sample_in_g_step: bool = True,
        r2: float = 0,
        relativistic: bool = False,
        see: See | None = None,
    ) -> None:
        self.system, self.gan, self.r1, self.s_dim = system, gan, r1, 5 if system == "GAN" else 3
        self.r2, self.relativistic = r2, relativistic
        self.see = see or (lambda x, purpose, positions: x)  # what D sees of an image
        self.beta, self.sample_in_g_step = 0.3, sample_in_g_step  # of a bottleneck
        self.opt_g = RMSprop(gan.G.parameters(), lr=1e-3, alpha=0.99, eps=1e-8)
        self.opt_d = RMSprop(gan.D.parameters(), lr=1e-4, alpha=0.99, eps=1e-8)
        self.opt_q = RMSprop(gan.q.parameters(), lr=5e-4, alpha=0.99, eps=1e-8)  # InfoGAN's

    def iterate(self, batch: Reals) -> Found:
        """Run one iteration and return its terms."""
        c = self.code(batch)
        found = self.discriminator(batch, self.fakes(Purpose.NUISANCE_D, batch, c).detach(), c)
        found |= self.generator(batch, self.fakes(Purpose.NUISANCE_G, batch, c), c)
        with torch.no_grad():
            for average, p in zip(self.gan.average.parameters(), self.gan.G.parameters(), strict=True):
                average.copy_(DECAY * average + (1 - DECAY) * p)
        return found

    def code(self, batch: Reals) -> Tensor:
        """c of the prior, or of the frozen encoder at the reals."""
        eps = draw(Purpose.CODE, batch.positions, 0 if self.system == "GAN" else C)
        if self.system in ("GAN", "InfoGAN"):
            return eps
        mu, logvar = posterior(self.gan.q, (batch.encoder_images + 1) / 2)
        return (mu + torch.exp(0.5 * logvar) * eps).detach()

    def fakes(self, purpose: Purpose, batch: Reals, c: Tensor) -> Tensor:
        """G(s, c), with labels G(s, y, c), with an s of its own for each purpose."""
        y = c[:, :0] if batch.y is None else batch.y
        z = torch.cat([draw(purpose, batch.positions, self.s_dim), y, c], 1)
        grown = (batch.images.shape[-1], batch.alpha) if isinstance(self.gan.G, Generator) else ()
        return self.gan.G(z, *grown)

    def judge(self, x: Tensor, c: Tensor, purpose: Purpose, batch: Reals) -> tuple[Tensor, Tensor]:
        """(logits, KL of a bottleneck or zeros)."""
        D, x = self.gan.D, self.see(x, SEEN[purpose], batch.positions)
        if isinstance(D, Discriminator):
            noise = draw(purpose, batch.positions, *D.noise_shape)
            if purpose in (Purpose.BOTTLENECK_G, Purpose.BOTTLENECK_G_REAL) and not self.sample_in_g_step:
                noise = torch.zeros_like(noise)
            return D(x, noise=noise, c=c if self.system == "cGAN" else None, y=batch.y, alpha=batch.alpha)[:2]
        if self.system != "cGAN" and batch.y is None:
            return D(x).logits, torch.zeros(())
        features, _ = D.layers(x)
        logits = (features @ D.judge.linear.weight.T + D.judge.linear.bias)[:, 0]
        if self.system == "cGAN":
            pair = torch.cat([c, c * c], 1) @ D.judge.projection.embed.weight.T
            logits = logits + (features * pair).sum(1) / math.sqrt(256)
        if batch.y is not None:  # features times the sum of the columns of the classes
            columns = D.judge.label_projection.embed.weight
            classes = [columns[:, row.bool()].sum(1) for row in batch.y]
            logits = logits + (features * torch.stack(classes)).sum(1)
        return logits, torch.zeros(())

    def discriminator(self, batch: Reals, fake: Tensor, c: Tensor) -> Found:
        """D's step, with R1 and R2 by double backward, and the bottleneck's beta."""
        x, fake = batch.images.clone().requires_grad_(), fake.clone().requires_grad_()
        d_real, kl_real = self.judge(x, c, Purpose.BOTTLENECK_REAL, batch)
        d_fake, kl_fake = self.judge(fake, c, Purpose.BOTTLENECK_FAKE, batch)
        (g,) = torch.autograd.grad(d_real.sum(), x, create_graph=True)
        (g_fake,) = torch.autograd.grad(d_fake.sum(), fake, create_graph=True)
        penalty, penalty_fake = (slope.pow(2).sum((1, 2, 3)).mean() for slope in (g, g_fake))
        kl = 0.5 * (kl_real.mean() + kl_fake.mean())
        if self.relativistic:
            real = wrong = adversarial = -torch.log(torch.sigmoid(d_real - d_fake)).mean()
        else:
            real, wrong = -torch.log(torch.sigmoid(d_real)).mean(), -torch.log(1 - torch.sigmoid(d_fake)).mean()
            adversarial = real + wrong
        (norm,) = descend(adversarial + self.r1 * penalty + self.r2 * penalty_fake + self.beta * kl, self.opt_d)
        found = ({"r2": penalty_fake} if self.r2 else {}) | {
            "loss_d_real": real, "loss_d_fake": wrong, "r1": penalty if self.r1 else torch.zeros(()),
            "logit_real": d_real.mean(), "logit_fake": d_fake.mean(), "grad_norm_d": norm,
        }  # fmt: skip
        if isinstance(self.gan.D, Discriminator):
            found |= {"kl": kl, "beta": torch.tensor(self.beta, dtype=torch.float64)}
            self.beta = max(0.0, self.beta - 0.01 * (0.2 - float(kl)))
        return found

    def generator(self, batch: Reals, fake: Tensor, c: Tensor) -> Found:
        """G's step, and InfoGAN's q's."""
        judged, _ = self.judge(fake, c, Purpose.BOTTLENECK_G, batch)
        if self.relativistic:
            judged = judged - self.judge(batch.images, c, Purpose.BOTTLENECK_G_REAL, batch)[0].detach()
        loss = adversarial = -torch.log(torch.sigmoid(judged)).mean()
        found, optimizers = {"loss_g": adversarial}, [self.opt_g]
        if self.system in ("InfoGAN", "ID-GAN"):
            mu, logvar = posterior(self.gan.q, (fake + 1) / 2)
            nll = 0.5 * (math.log(2 * math.pi) + logvar + (c - mu) ** 2 / (torch.exp(logvar) + 1e-8))
            found["code_nll"] = nll.sum(1).mean()
            loss = adversarial + CODE_WEIGHT * found["code_nll"]
        if self.system == "InfoGAN":
            optimizers.append(self.opt_q)
        names = ("grad_norm_g", "grad_norm_q")[: len(optimizers)]
        return found | dict(zip(names, descend(loss, *optimizers), strict=True))


class PlainVae:
    """VAE, beta-VAE and, with a critic, FactorVAE's algorithm 2."""

    def __init__(self, vae: VAE, critic: nn.Module | None, likelihood: str = "bernoulli") -> None:
        self.vae, self.critic, self.likelihood = vae, critic, likelihood
        self.opt = Adam(vae.parameters(), lr=1e-4, betas=(0.9, 0.999), eps=1e-8)
        self.opt_critic = Adam(critic.parameters(), lr=2e-4, betas=(0.5, 0.9), eps=1e-8) if critic else None

    def iterate(self, first: VaeBatch, second: VaeBatch, beta: float) -> Found:
        """Run one iteration and return its terms."""
        c, mu, logvar = self.code(first)
        p = torch.sigmoid(self.vae.decoder(c))
        if self.likelihood == "bernoulli":
            cost = -first.x * p.log() - (1 - first.x) * (1 - p).log()
        else:
            cost = (p - first.x) ** 2
        found = {"reconstruction": cost.sum() / BATCH}
        kl = 0.5 * (mu**2 + logvar.exp() - logvar - 1)
        loss = found["reconstruction"] + beta * kl.sum() / BATCH
        if self.critic:
            found["total_correlation"] = (self.critic(c)[:, 0] - self.critic(c)[:, 1]).mean()
            loss = loss + 10 * found["total_correlation"]
        (norm,) = descend(loss, self.opt)
        found |= {"loss": loss, "kl": kl.sum() / BATCH, "beta": torch.tensor(beta), "grad_norm": norm}
        return found | (self.judge(c.detach(), second) if self.critic else {})

    def code(self, batch: VaeBatch) -> tuple[Tensor, Tensor, Tensor]:
        """(c, mu, logvar) of a batch."""
        mu, logvar = posterior(self.vae.encoder, batch.x)
        return mu + torch.exp(0.5 * logvar) * draw(Purpose.VAE_CODE, batch.positions, C), mu, logvar

    def judge(self, c: Tensor, second: VaeBatch) -> Found:
        """The critic's step: class 0 is q(c), class 1 its permuted dims."""
        assert self.critic is not None
        c2 = self.code(second)[0].detach()
        keys = bits(SEED, Purpose.PERMUTED_DIMS, second.positions, C)
        permuted = torch.stack([c2[keys[:, j].argsort(), j] for j in range(C)], 1)
        zeros, ones = torch.zeros(BATCH, dtype=torch.int64), torch.ones(BATCH, dtype=torch.int64)
        loss = 0.5 * F.cross_entropy(self.critic(c), zeros) + 0.5 * F.cross_entropy(self.critic(permuted), ones)
        (norm,) = descend(loss, self.opt_critic)
        return {"loss_critic": loss, "grad_norm_critic": norm}


def gap(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative to the expected norm."""
    return float((found - expected).detach().norm()) / max(float(expected.detach().norm()), 1e-8)


def assert_same_parameters(found: dict[str, nn.Module], expected: dict[str, nn.Module]) -> None:
    """Parameter by parameter, to a relative 1e-9."""
    assert found.keys() == expected.keys()
    for key, network in expected.items():
        for (name, ours), theirs in zip(found[key].named_parameters(), network.parameters(), strict=True):
            assert gap(ours, theirs) < 1e-9, f"{key}.{name}"


def assert_same_terms(found: Found, expected: Found, ignored: Sequence[str] = ()) -> None:
    """Term by term, to a relative 1e-9. ignored: terms that the plain iteration does not compute."""
    assert found.keys() == expected.keys() | set(ignored)
    for name, theirs in expected.items():
        assert gap(found[name], theirs) < 1e-9, name
