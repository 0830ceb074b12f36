"""Stage 2: what a GAN's config becomes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from common.random_numbers import Purpose, normal
from data_shards.read.loader import Batch
from models import CodeEncoder, in_chunks, sample_posterior
from trainer.checkpoints.ema_snapshots import Snapshots
from trainer.checkpoints.state import State
from trainer.config.schema import GanConfig
from trainer.distributed.engines.choice import engine
from trainer.distributed.engines.ddp import Replicated
from trainer.distributed.world import World
from trainer.encoders.frozen import FrozenEncoder
from trainer.steps import compilation, networks, schedule
from trainer.steps.batches import reals
from trainer.steps.ema import Averages
from trainer.steps.forward_passes import ForwardPasses
from trainer.steps.gan_step import GanStep
from trainer.steps.kl_constraint import KLConstraint
from trainer.steps.running_means import Terms
from trainer.steps.schedule import Now

from .base import DTYPES, GRID_IMAGES, LAYOUT, grid_reals, to_uint8
from .data import Data

M = TypeVar("M", bound=nn.Module)


class GanInputs(NamedTuple):
    """What stage 2 reads: the reals, and the encoder that gives the code, where it is a posterior's.

    first: the clock from which on the phases of growth were checked.
    """

    data: Data
    frozen: FrozenEncoder | None
    first: int


class GanTraining:
    """All of stage 2 but its data: what memory.Estimator runs on fake tensors. encoder: gives the code, or None."""

    batches_per_step = 1

    def __init__(self, config: GanConfig, world: World, channels: int, encoder: nn.Module | None) -> None:
        self.config, self.world, self.dtype = config, world, DTYPES[config.precision]
        self.plan = schedule.gan_phases(config)
        G, D = self._place(networks.generator(config, channels)), self._place(networks.discriminator(config, channels))
        self.g = g = engine(config.strategy, "generator", G, partial(networks.optimizer, config.optimizer_g), world)
        self.d = d = engine(config.strategy, "discriminator", D, partial(networks.optimizer, config.optimizer_d), world)
        self.averages, learner = Averages(g, config.ema.averages), None
        self.snapshots = Snapshots(self.averages, config.ema) if config.ema.snapshot_kimg is not None else None
        self.q = None if encoder is None else self._place(CodeEncoder(encoder))
        if config.optimizer_q is not None:
            network = self._place(networks.joint_q(config, channels))
            learner = Replicated("q", network, partial(networks.optimizer, config.optimizer_q), world)
        self.state = State()
        for part in (g, d, *((learner,) if learner else ()), self.averages):
            self.state.add(part)
        kl_constraint = KLConstraint(config.bottleneck, world, self.dtype)
        if config.bottleneck:
            self.state.add_tensor("bottleneck.beta", kl_constraint.beta)
        teacher: nn.Module | None = self.q if config.code_loss == "distill" else learner.network if learner else None
        if config.compile:
            compilation.compile_passes([n for n in (G, D, self.q, learner and learner.network) if n], world.device)
        passes = ForwardPasses(g.network, d.network, self.q, config)
        self._step = GanStep(g, d, teacher, learner, self.averages, kl_constraint, passes, config)
        self.terms = self._step.terms

    def _place(self, network: M) -> M:
        return network.to(self.world.device, self.dtype).to(memory_format=LAYOUT)

    def step(self, batches: Sequence[Sequence[Batch]], now: Now, images_seen: int) -> Terms:
        config, (pieces,) = self.config, batches
        before, after = (
            schedule.iteration(self.plan, clock, self.batches_per_step)
            for clock in (images_seen, images_seen + now.batch_size)
        )
        seen = [reals(b, config.data, config.seed, now, self.world.device, self.dtype) for b in pieces]
        r1_weight = schedule.r1_weight(config.r1, config.r1_interval, before, max(after, before + 1))
        return self._step(seen, r1_weight, images_seen, now.batch_size)


class GanStage(GanTraining):
    """Stage 2: GAN, InfoGAN, cGAN or ID-GAN. frozen: the encoder that gives the code, where it is a posterior's."""

    def __init__(self, config: GanConfig, world: World, inputs: GanInputs) -> None:
        self.data, self.frozen, self.first = inputs
        self.facts = self.data.facts | ({"vae": self.frozen.sha256} if self.frozen else {})
        encoder = self.frozen.to(world.device, DTYPES[config.precision]) if self.frozen else None
        super().__init__(config, world, self.data.channels, encoder)

    @torch.no_grad()
    def samples(self, now: Now) -> Tensor:
        """The first averaged generator with fixed noise, at codes of the first reals where codes are a posterior's."""
        at = torch.arange(GRID_IMAGES, device=self.world.device)
        s = normal(self.config.seed, Purpose.EVAL_NUISANCE, at, (self.config.s_dim,)).to(self.dtype)
        c = normal(self.config.seed, Purpose.EVAL_CODE, at, (self.config.c_dim,)).to(self.dtype)
        if self.q is not None:
            images = grid_reals(self.data, GRID_IMAGES).to(self.world.device, self.dtype) / 127.5 - 1
            mean, logvar = self.q(images)
            s, c = s[: len(images)], sample_posterior(mean, logvar, c[: len(images)])
        alpha = None if now.alpha is None else torch.full((), now.alpha, device=s.device, dtype=self.dtype)
        z = torch.cat((s, c), 1)
        average = self.averages.network()
        return torch.cat(
            [to_uint8((average(row, now.resolution, alpha) + 1) / 2) for row in in_chunks(z, now.resolution)]
        )
