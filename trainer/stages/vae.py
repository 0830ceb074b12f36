"""Stage 1: networks and optimizers of a VAE's config, and its step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from data_shards.read.loader import CODE_RESOLUTION, Batch
from trainer.checkpoints.ema_snapshots import Snapshots
from trainer.checkpoints.state import State
from trainer.config.schema import VaeConfig
from trainer.distributed.engines.ddp import Replicated
from trainer.distributed.world import World
from trainer.steps import networks, schedule
from trainer.steps.batches import vae_batch
from trainer.steps.running_means import Terms
from trainer.steps.schedule import Now, Phase
from trainer.steps.vae_step import VaeStep

from .base import DTYPES, GRID_IMAGES, LAYOUT, grid_reals, to_uint8
from .data import Data


def vae_phases(config: VaeConfig) -> list[Phase]:
    """Return the phases of a run of stage 1: it is one, at 64 px."""
    return schedule.phases(CODE_RESOLUTION, config.batch_size, None)


class VaeStage:
    """Stage 1: VAE, beta-VAE or FactorVAE on the 64 px level.

    An iteration of FactorVAE takes two batches of the stream; the second is permuted.
    """

    snapshots: Snapshots | None = None
    checked_from = 0

    def __init__(self, config: VaeConfig, world: World, data: Data) -> None:
        self.config, self.world, self.data, self.dtype = config, world, data, DTYPES[config.precision]
        self.phases = vae_phases(config)
        self.vae = networks.vae(config, self.data.channels).to(world.device, self.dtype).to(memory_format=LAYOUT)
        trained = Replicated("vae", self.vae, partial(networks.optimizer, config.optimizer), world)
        self.state, critic = State(), None
        self.state.add(trained)
        if config.optimizer_critic is not None:
            network = networks.critic(config).to(world.device, self.dtype)
            critic = Replicated("critic", network, partial(networks.optimizer, config.optimizer_critic), world)
            self.state.add(critic)
        self.pass_sizes: dict[int, int] = {}
        self._step = VaeStep(self.vae, trained, critic, config)
        self.terms, self.batches_per_step = self._step.terms, 1 if critic is None else 2
        self.input_identity = self.data.identity

    def step(self, batches: Sequence[Sequence[Batch]], now: Now, images_seen: int) -> Terms:
        """Run one iteration. batches: this process's micro-batches of each batch; images_seen: the clock before it."""
        first, *others = [[vae_batch(b, self.world.device, self.dtype) for b in pieces] for pieces in batches]
        return self._step(first, others[0] if others else [], images_seen)

    @torch.no_grad()
    def samples(self, now: Now) -> Tensor:
        """Draw rows of 16 reals, each row above its reconstructions from the posterior mean, as uint8 on the CPU."""
        x = grid_reals(self.data, GRID_IMAGES // 2).to(self.world.device, self.dtype) / 255
        rebuilt = self.vae.decode(self.vae.encoder(x)[0])
        pairs = zip(x.split(16), rebuilt.split(16), strict=True)
        return to_uint8(torch.cat([torch.cat(rows) for rows in pairs]))
