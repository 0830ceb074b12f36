"""How much memory stage 2 will need, before its first step.

The estimate is one iteration of the real step on fake tensors, which have shapes and storages but take no memory. So it
covers every network, setting and average that the step has, and cannot drift from it as a formula would. What a
strategy splits is computed from the networks' sizes (sharded_sizes.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from data_shards.read.loader import CODE_RESOLUTION, Batch
from trainer.checkpoints.state import State
from trainer.config.schema import GanConfig
from trainer.config.sections import Strategy
from trainer.distributed.engines.base import Engine
from trainer.distributed.world import World
from trainer.steps import schedule
from trainer.steps.batches import micro, pass_size
from trainer.steps.ema import Averages
from trainer.steps.running_means import Terms
from trainer.steps.schedule import Now, Phase

from . import sharded_sizes
from .fake_tensors import fake_tensors
from .sharded_sizes import Network
from .tracker import MemoryTracker, exclude_gradients


class Training(Protocol):
    """Everything of a stage but its data: what an estimate runs."""

    phases: list[Phase]
    g: Engine
    d: Engine
    averages: Averages
    state: State

    def step(self, batches: Sequence[Sequence[Batch]], now: Now, images_seen: int) -> Terms:
        """Run one iteration. batches: one list of micro-batches; images_seen: the clock before it."""
        ...


Build = Callable[[GanConfig, World, nn.Module | None], Training]


@dataclass(frozen=True)
class Need:
    """Bytes of one process in its worst phase.

    images: of one pass; kept: weights, averages and optimizer state, which stay between iterations; activations: the
    most that an iteration adds to them, gradients and batches included.
    """

    resolution: int
    images: int
    kept: int
    activations: int

    @property
    def bytes(self) -> int:
        """The most that is in use at once."""
        return self.kept + self.activations

    def line(self, free: int | None) -> str:
        """Return a line for the user. free: bytes, or None where the system does not say."""
        room = "" if free is None else f"; {gb(free)} is free"
        return (
            f"memory: about {gb(self.bytes)} per process at {self.resolution} px "
            f"(weights and optimizer {gb(self.kept)}, activations {gb(self.activations)}){room}"
        )


@dataclass(frozen=True)
class Estimator:
    """Estimates for any config of stage 2, on processes like those of `world`.

    build: makes the training of a config, given a world and a copy of `encoder`; encoder: the frozen encoder on the
    CPU, or None; channels: of the images; phases: those that a run of a config comes to.
    """

    build: Build
    encoder: nn.Module | None
    channels: int
    world: World
    phases: Callable[[GanConfig], list[Phase]] = schedule.gan_phases

    def need(self, config: GanConfig) -> Need:
        """Return the need of the worst phase, in an iteration where R1 is due."""
        candidates = undominated(self.phases(config), config.micro_batch, self.world.size)
        needs = self.needs(config, candidates, [config.strategy])
        return max((need[config.strategy] for need in needs), key=lambda need: need.bytes)

    def needs(
        self, config: GanConfig, phases: Sequence[Phase], strategies: Sequence[Strategy]
    ) -> list[dict[Strategy, Need]]:
        """Return the need of each phase, by strategy."""
        by_phase: list[dict[Strategy, Need]] = [{} for _ in phases]
        if "ddp" in strategies:
            for needs, need in zip(by_phase, self._replicated(config, phases), strict=True):
                needs["ddp"] = need
        sharding = [strategy for strategy in strategies if strategy != "ddp"]
        if sharding:
            for needs, sharded in zip(by_phase, self._sharded(config, phases, sharding), strict=True):
                needs.update(sharded)
        return [{strategy: needs[strategy] for strategy in strategies} for needs in by_phase]

    def _replicated(self, config: GanConfig, phases: Sequence[Phase]) -> list[Need]:
        with self.training(config, "ddp") as (training, tracker):
            kept = tracker.now  # the optimizers' state too, which a checkpoint's registry makes at the start
            return [self._need(tracker, training, config, phase, kept) for phase in phases]

    def _sharded(
        self, config: GanConfig, phases: Sequence[Phase], strategies: Sequence[Strategy]
    ) -> list[dict[Strategy, Need]]:
        """Estimate strategies that split the networks.

        Activations are those of a fake step of one process; weights, gradients and optimizer state are computed.
        """
        with self.training(config, strategies[0], alone=True) as (training, tracker):
            networks = [Network.of(training.g, len(training.averages.settings)), Network.of(training.d, 0)]
            not_split = tracker.now - sum(sharded_sizes.kept("ddp", networks, 1))
            for engine in (training.g, training.d):
                exclude_gradients(tracker, engine.network.parameters())
                engine.optimizer.register_step_pre_hook(_forget_gradients)
            alone = [self._need(tracker, training, config, phase, 0) for phase in phases]
        return [{s: self._under(s, need, networks, not_split) for s in strategies} for need in alone]

    def _under(self, strategy: Strategy, alone: Need, networks: list[Network], not_split: int) -> Need:
        """Return a need under a strategy. alone: with the activations of one process and nothing else."""
        kept = not_split + sum(sharded_sizes.kept(strategy, networks, self.world.size))
        transient = sharded_sizes.transient(strategy, networks, self.world.size)
        return replace(alone, kept=kept, activations=alone.activations + transient)

    def _need(self, tracker: MemoryTracker, training: Training, config: GanConfig, phase: Phase, kept: int) -> Need:
        tracker.reset_peak()
        before = tracker.now
        images = self.iterate(training, phase, config)
        return Need(phase.resolution, images, kept, tracker.peak - before)

    @contextmanager
    def training(
        self, config: GanConfig, strategy: Strategy, alone: bool = False
    ) -> Iterator[tuple[Training, MemoryTracker]]:
        """Build a training of fake tensors, not compiled, and a tracker of its memory.

        It has the passes of a strategy and whole networks. alone: as one process, which averages nothing with others.
        """
        in_parts = strategy != "ddp" or config.compile
        config = config.model_copy(update={"compile": False, "strategy": "ddp"})
        world = _Silent(0, 1 if alone else self.world.size, torch.device("cpu"), None)
        encoder = copy.deepcopy(self.encoder)  # before fakes: the training moves it, which makes its parameters fake
        with fake_tensors(), MemoryTracker() as tracker:
            training = self.build(config, world, encoder)
            if in_parts:
                training.d.adds_gradients = False
            yield training, tracker

    def iterate(self, training: Training, phase: Phase, config: GanConfig, images_seen: int = 0) -> int:
        """Run one iteration on a fake batch and return the images of a pass.

        It has two micro-batches at the most: those after the second need as much as the second.
        """
        r, share = phase.resolution, phase.batch_size // self.world.size
        images = pass_size(share, config.micro_batch)
        pieces = micro(self._batch(share, max(r, CODE_RESOLUTION)), images)
        waiting = [torch.empty(images * len(pieces[2:]), self.channels, s, s) for s in (r, CODE_RESOLUTION)]
        training.step([pieces[:2]], Now(r, phase.batch_size, 0.5 if phase.fades else None), images_seen)
        del waiting
        return images

    def _batch(self, count: int, side: int) -> Batch:
        numbers = torch.zeros(count, dtype=torch.int64)
        images, encoder_images = (
            torch.zeros(count, self.channels, s, s, dtype=torch.uint8) for s in (side, CODE_RESOLUTION)
        )
        return Batch(numbers, numbers, numbers, images, images if side == CODE_RESOLUTION else encoder_images)


def _forget_gradients(optimizer: Optimizer, args: object, kwargs: object) -> None:
    optimizer.zero_grad(set_to_none=True)


def undominated(phases: Sequence[Phase], micro_batch: int | str | None, processes: int) -> list[Phase]:
    """Return the phases that could need the most: no other has as many images in a pass and a batch, of as many pixels.

    A larger resolution has all layers of a smaller one, and a fade has all of the phase that follows it.
    """

    def cost(phase: Phase) -> tuple[int, int, int, bool]:
        share = phase.batch_size // processes
        return phase.resolution, pass_size(share, micro_batch), share * phase.resolution**2, phase.fades

    by_cost = {cost(phase): phase for phase in phases}
    return [phase for own, phase in by_cost.items() if not any(_exceeds(other, own) for other in by_cost)]


def _exceeds(other: tuple[int, ...], own: tuple[int, ...]) -> bool:
    return other != own and all(a >= b for a, b in zip(other, own, strict=True))


def gb(count: float) -> str:
    """Format bytes in units of 1e9, as the status line does."""
    return f"{count / 1e9:.2f} GB" if count < 1e10 else f"{count / 1e9:.1f} GB"


@dataclass(frozen=True)
class _Silent(World):
    """As many processes as a world has, which exchange nothing."""

    def all_reduce_sum_(self, tensor: Tensor) -> Tensor:
        return tensor

    def start_sum_(self, tensor: Tensor) -> Callable[[], None]:
        return lambda: None
