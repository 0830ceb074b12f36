"""Stage 2: networks, optimizers and averages of a GAN's config, and its step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from common.random_numbers import Purpose, normal
from data_shards.read.loader import Batch
from models import CodeEncoder, in_chunks, sample_posterior
from trainer.checkpoints import initial_networks
from trainer.checkpoints.ema_snapshots import Snapshots
from trainer.checkpoints.initial_networks import InitialNetworks
from trainer.checkpoints.state import State
from trainer.config.schema import GanConfig
from trainer.distributed.engines.choice import engine
from trainer.distributed.engines.ddp import Replicated
from trainer.distributed.world import World
from trainer.encoders.frozen import FrozenEncoder
from trainer.labels.label_table import LabelTable
from trainer.steps import compilation, networks, schedule
from trainer.steps.augment.augmenter import Augmenter
from trainer.steps.batches import reals
from trainer.steps.ema import Averages
from trainer.steps.forward_passes import ForwardPasses
from trainer.steps.gan_step import GanStep, Penalties
from trainer.steps.kl_constraint import KLConstraint
from trainer.steps.running_means import Terms
from trainer.steps.schedule import Now

from .base import DTYPES, GRID_IMAGES, LAYOUT, grid_reals, grid_samples, to_uint8
from .data import Data

M = TypeVar("M", bound=nn.Module)


class GanInputs(NamedTuple):
    """The inputs of stage 2.

    frozen_encoder: gives the code, or None where no code is a posterior's; checked_from: the clock from which on the
    inputs were checked; what earlier phases need was not; initial: the networks that the run starts from, or None;
    pass_sizes: most images of a pass by resolution, where `micro_batch: auto` chose them; labels: of the images, where
    the config names some.
    """

    data: Data
    frozen_encoder: FrozenEncoder | None
    checked_from: int
    initial: InitialNetworks | None
    pass_sizes: dict[int, int]
    labels: LabelTable | None = None

    @property
    def identity(self) -> dict[str, str | int]:
        """What a resume must find unchanged: hashes of the data, the encoder and the networks that it started from."""
        vae = {"vae": self.frozen_encoder.sha256} if self.frozen_encoder else {}
        y_dim = {"y_dim": self.labels.labels.dim} if self.labels else {}
        return self.data.identity | vae | ({"init_from": self.initial.sha256} if self.initial else {}) | y_dim


class GanTraining:
    """All of stage 2 but its data: what memory.estimate.Estimator runs on fake tensors.

    encoder: the frozen encoder that gives the code, or None; labels: of the images, where the config names some. q: the
    encoder for images in [-1, 1].
    """

    batches_per_step = 1

    def __init__(
        self,
        config: GanConfig,
        world: World,
        channels: int,
        encoder: nn.Module | None,
        labels: LabelTable | None = None,
    ) -> None:
        self.config, self.world, self.dtype, self.labels = config, world, DTYPES[config.precision], labels
        self.phases = schedule.gan_phases(config)
        inputs = config, channels, labels.labels.dim if labels else 0
        G, D = self._place(networks.generator(*inputs)), self._place(networks.discriminator(*inputs))
        self.g = engine(config.strategy, "generator", G, partial(networks.optimizer, config.optimizer_g), world)
        optimizer_d, kept = partial(networks.optimizer, config.optimizer_d), networks.frozen(config, D)
        self.d = engine(config.strategy, "discriminator", D, optimizer_d, world, kept)
        self.averages = Averages(self.g, config.ema.averages)
        self.snapshots = Snapshots(self.averages, config.ema) if config.ema.snapshot_kimg is not None else None
        self.q = None if encoder is None else self._place(CodeEncoder(encoder))
        joint_q = self._joint_q(channels)
        kl_constraint = KLConstraint(config.bottleneck, world, self.dtype)
        augmenter = Augmenter(config.augment, config.seed, world, self.dtype)
        self.state = self._state(joint_q, kl_constraint, augmenter)
        if config.compile:
            self._compile(G, D, self.q, joint_q.network if joint_q else None)
        passes = ForwardPasses(self.g.network, self.d.network, self.q, config, augmenter)
        loss_q = self._code_loss_encoder(joint_q)
        self._step = GanStep(self.g, self.d, loss_q, joint_q, self.averages, kl_constraint, passes, config)
        self.terms = self._step.terms

    def _place(self, network: M) -> M:
        return network.to(self.world.device, self.dtype).to(memory_format=LAYOUT)

    def _joint_q(self, channels: int) -> Replicated | None:
        """Return InfoGAN's q with its optimizer; other systems have none."""
        settings = self.config.optimizer_q
        if settings is None:
            return None
        network = self._place(networks.joint_q(self.config, channels))
        return Replicated("q", network, partial(networks.optimizer, settings), self.world)

    def _state(self, joint_q: Replicated | None, kl_constraint: KLConstraint, augmenter: Augmenter) -> State:
        """Register everything that changes between steps."""
        state = State()
        for part in (self.g, self.d, joint_q, self.averages):
            if part is not None:
                state.add(part)
        if self.config.bottleneck:
            state.add_tensor("bottleneck.beta", kl_constraint.beta)
        for name, tensor in augmenter.state.items():
            state.add_tensor(name, tensor)
        return state

    def _compile(self, *parts: nn.Module | None) -> None:
        compilation.compile_passes([network for network in parts if network is not None])

    def _code_loss_encoder(self, joint_q: Replicated | None) -> nn.Module | None:
        """Return the q of the code loss: ID-GAN's frozen one, InfoGAN's joint one, or None without such a loss."""
        if self.config.code_loss == "distill":
            return self.q
        return joint_q.network if joint_q else None

    def step(self, batches: Sequence[Sequence[Batch]], now: Now, images_seen: int) -> Terms:
        """Run one iteration. batches: one list of this process's micro-batches; images_seen: the clock before it."""
        config, (micro_batches,) = self.config, batches
        to = self.world.device, self.dtype
        seen = [reals(b, config.data, self.labels, config.seed, now, *to) for b in micro_batches]
        return self._step(seen, self._penalties(now, images_seen), images_seen, now.batch_size)

    def _penalties(self, now: Now, images_seen: int) -> Penalties:
        iteration, following = (
            schedule.iteration(self.phases, clock, self.batches_per_step)
            for clock in (images_seen, images_seen + now.batch_size)
        )
        following, every = max(following, iteration + 1), self.config.r1_interval
        r1, r2 = (schedule.lazy_weight(w, every, iteration, following) for w in (self.config.r1, self.config.r2))
        return Penalties(r1, r2)


class GanStage(GanTraining):
    """Stage 2: GAN, InfoGAN, cGAN or ID-GAN.

    frozen_encoder: the encoder that gives the code where it is a posterior's, else None.
    """

    def __init__(self, config: GanConfig, world: World, inputs: GanInputs) -> None:
        self.data, self.frozen_encoder, self.checked_from, initial, self.pass_sizes, labels = inputs
        self.input_identity = inputs.identity
        encoder = None
        if self.frozen_encoder:
            encoder = self.frozen_encoder.to(world.device, DTYPES[config.precision])
        super().__init__(config, world, self.data.channels, encoder, labels)
        if initial:
            initial_networks.fill(self.state, initial)

    @torch.no_grad()
    def samples(self, now: Now) -> Tensor:
        """Draw the images of a grid from the first averaged generator, with fixed noise, uint8 [N, C, R, R] on the CPU.

        Where codes are a posterior's, they are those of reals from all over the set, and so are labels.
        """
        images = self.generate(self.averages.network(), self.grid_inputs(GRID_IMAGES), now)
        return torch.cat([to_uint8((part + 1) / 2) for part in images])

    @torch.no_grad()
    def grid_inputs(self, count: int) -> Tensor:
        """Return what G draws the first images of a grid from, [s, y, c]: [N, dim]. N is at most `count`."""
        at = torch.arange(count, device=self.world.device)
        s = normal(self.config.seed, Purpose.EVAL_NUISANCE, at, (self.config.s_dim,)).to(self.dtype)
        c = normal(self.config.seed, Purpose.EVAL_CODE, at, (self.config.c_dim,)).to(self.dtype)
        if self.q is not None:
            images = grid_reals(self.data, count).to(self.world.device, self.dtype) / 127.5 - 1
            mean, logvar = self.q(images)
            s, c = s[: len(images)], sample_posterior(mean, logvar, c[: len(images)])
        if self.labels is None:
            return torch.cat((s, c), 1)
        y = self.labels.y(grid_samples(self.data, len(s))).to(s)
        return torch.cat((s[: len(y)], y, c[: len(y)]), 1)

    def generate(self, generator: nn.Module, z: Tensor, now: Now) -> Iterator[Tensor]:
        """Yield the images [b, C, R, R] of a generator's weights, in [-1, 1], in parts that memory has room for."""
        alpha = None if now.alpha is None else torch.full((), now.alpha, device=z.device, dtype=self.dtype)
        for rows in in_chunks(z, now.resolution):
            yield generator(rows, now.resolution, alpha)
