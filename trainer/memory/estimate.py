"""How much memory stage 2 will need, before its first step, and how much there is.

The estimate is one iteration of the real step on fake tensors, which have shapes and storages and no memory: it knows
every network, setting and average that the step knows, and cannot drift from it as a formula would. What a strategy
splits is on paper (splitting.py).
"""

from __future__ import annotations

import copy
import operator
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
from trainer.config.sections import CheckpointingConfig, ResNetConfig, Strategy
from trainer.distributed.engines.base import Engine
from trainer.distributed.world import World
from trainer.steps import schedule
from trainer.steps.batches import micro
from trainer.steps.ema import Averages
from trainer.steps.running_means import Terms
from trainer.steps.schedule import Now, Phase

from . import sharded_sizes
from .fake_tensors import fake_tensors
from .sharded_sizes import Network
from .tracker import MemoryTracker, exclude_gradients

# Of need. glibc keeps 24 to 44 % more than is alive (2 to 5 % with MALLOC_MMAP_THRESHOLD_=65536): docs/performance.md.
# The GPU's allocator rounds, and cuDNN has scratch space; nothing was measured there.
MARGIN = {"cpu": 1.3, "cuda": 1.1}


class Training(Protocol):
    """What an estimate runs: everything of a stage but its data."""

    plan: list[Phase]
    g: Engine
    d: Engine
    averages: Averages
    state: State

    def step(self, batches: Sequence[Sequence[Batch]], now: Now, images_seen: int) -> Terms: ...


Build = Callable[[GanConfig, World, nn.Module | None], Training]


@dataclass(frozen=True)
class Need:
    """Bytes of one process at its worst stage. kept: weights, averages and optimizer state, which stay between
    iterations; activations: the most that an iteration adds to them, gradients and batches included."""

    resolution: int
    images: int  # of one pass
    kept: int
    activations: int

    @property
    def bytes(self) -> int:
        return self.kept + self.activations

    def line(self, free: int | None) -> str:
        """For the user."""
        room = "" if free is None else f"; {gb(free)} is free"
        return (
            f"memory: about {gb(self.bytes)} per process at {self.resolution} px "
            f"(weights and optimizer {gb(self.kept)}, activations {gb(self.activations)}){room}"
        )


@dataclass(frozen=True)
class Estimator:
    """build: makes the training of a config, with a copy of the frozen encoder, on the CPU, or None. phases: that a run
    of a config comes to."""

    build: Build
    encoder: nn.Module | None
    channels: int
    world: World
    phases: Callable[[GanConfig], list[Phase]] = schedule.gan_phases

    def need(self, config: GanConfig) -> Need:
        """Of the worst stage that is ahead, in the iteration where R1 is due."""
        worst = undominated(self.phases(config), config.micro_batch, self.world.size)
        needs = self.needs(config, worst, [config.strategy])
        return max((need[config.strategy] for need in needs), key=lambda need: need.bytes)

    def needs(self, config: GanConfig, phases: Sequence[Phase], of: Sequence[Strategy]) -> list[dict[Strategy, Need]]:
        """Of each phase under each strategy."""
        split = [strategy for strategy in of if strategy != "ddp"]
        whole = [{"ddp": need} for need in self._replicated(config, phases)] if "ddp" in of else [{} for _ in phases]
        parts = self._split(config, phases, split) if split else [{} for _ in phases]
        return [{s: found[s] for s in of} for found in map(operator.or_, whole, parts)]

    def _replicated(self, config: GanConfig, phases: Sequence[Phase]) -> list[Need]:
        with self.training(config) as (training, tracker):
            kept = tracker.now  # with the optimizers' state, which the registry makes
            return [self._need(tracker, training, config, phase, kept) for phase in phases]

    def _split(self, config: GanConfig, phases: Sequence[Phase], of: Sequence[Strategy]) -> list[dict[Strategy, Need]]:
        """Activations as one process alone has them; weights, gradients and optimizer are on paper."""
        with self.training(config, alone=True) as (training, tracker):
            networks = [Network.of(training.g, len(training.averages.settings)), Network.of(training.d, 0)]
            rest, found = tracker.now - sum(sharded_sizes.kept("ddp", networks, 1)), []
            for engine in (training.g, training.d):
                exclude_gradients(tracker, engine.network.parameters())
                engine.optimizer.register_step_pre_hook(_forget_gradients)
            for phase in phases:
                alone = self._need(tracker, training, config, phase, 0)
                found.append({s: self._under(s, alone, networks, rest) for s in of})
        return found

    def _under(self, strategy: Strategy, alone: Need, networks: list[Network], rest: int) -> Need:
        kept = rest + sum(sharded_sizes.kept(strategy, networks, self.world.size))
        passing = sharded_sizes.passing(strategy, networks, self.world.size)
        return replace(alone, kept=kept, activations=alone.activations + passing)

    def _need(self, tracker: MemoryTracker, training: Training, config: GanConfig, phase: Phase, kept: int) -> Need:
        tracker.reset_peak()
        before = tracker.now
        images = self.iterate(training, phase, config)
        return Need(phase.resolution, images, kept, tracker.peak - before)

    @contextmanager
    def training(self, config: GanConfig, alone: bool = False) -> Iterator[tuple[Training, MemoryTracker]]:
        """Of fake tensors, which run as they are (not compiled), with the count of what is alive. alone: as one
        process, with nothing to average."""
        config = config.model_copy(update={"compile": False, "strategy": "ddp"})
        world = _Silent(0, 1 if alone else self.world.size, torch.device("cpu"), None)
        encoder = copy.deepcopy(self.encoder)  # here, as what was made fake is of no use, nor is its copy made of fakes
        with fake_tensors(), MemoryTracker() as tracker:
            yield self.build(config, world, encoder), tracker

    def iterate(self, training: Training, phase: Phase, config: GanConfig, images_seen: int = 0) -> int:
        """One iteration on a fake batch, of no more than two micro-batches: the others are as the second. Returns the
        images of a pass."""
        r, share = phase.resolution, phase.batch_size // self.world.size
        images = config.micro_batch or share
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

    def problem(self, config: GanConfig, need: Need, free: int) -> str | None:
        """Why the run does not fit, and what would."""
        if self._room(need) <= free:
            return None
        return (
            f"micro_batch: {need.images} images a pass at {need.resolution} px need {gb(need.bytes)} per process "
            f"({gb(self._room(need))} with what allocators waste), {gb(free)} is free; "
            + self._remedy(config, need, free)
        )

    def _remedy(self, config: GanConfig, need: Need, free: int) -> str:
        """The first that fits: the largest smaller micro-batch; checkpointing with single images; a smaller nf."""
        for size in _divisors(self.phases(config), self.world.size, need.images):
            smaller = config.model_copy(update={"micro_batch": size})
            if self._fits(smaller, free):
                return f"set micro_batch={size}, the largest that fits"
        single = config.model_copy(update={"micro_batch": 1})
        if isinstance(config.network, ResNetConfig):
            single = single.model_copy(update={"checkpointing": CheckpointingConfig(from_resolution=32)})
            if self._fits(single, free):
                return "set micro_batch=1 and checkpointing='{from_resolution: 32}', which fit"
            narrow = config.network
            while narrow.nf > 1:
                halves = {"nf": narrow.nf // 2, "nf_max": max(narrow.nf_max // 2, 1)}
                if narrow.generator_nf:
                    halves["generator_nf"] = max(narrow.generator_nf // 2, 1)
                narrow = narrow.model_copy(update=halves)
                if self._fits(single.model_copy(update={"network": narrow}), free):
                    return (
                        f"no micro_batch fits; with micro_batch=1, checkpointing='{{from_resolution: 32}}' and "
                        f"network.nf={narrow.nf} network.nf_max={narrow.nf_max} it does"
                    )
        return "no micro_batch fits; choose a smaller network or another machine"

    def _room(self, need: Need) -> float:
        return need.bytes * MARGIN.get(self.world.device.type, 1.1)

    def _fits(self, config: GanConfig, free: int) -> bool:
        return self._room(self.need(config)) <= free


def _forget_gradients(optimizer: Optimizer, args: object, kwargs: object) -> None:
    optimizer.zero_grad(set_to_none=True)


def _divisors(phases: Sequence[Phase], processes: int, below: int) -> list[int]:
    """Micro-batches that every stage's share of a batch divides by, smaller than `below`, the largest first."""
    batches = {phase.batch_size for phase in phases}
    return [m for m in range(below - 1, 0, -1) if all(batch // processes % m == 0 for batch in batches)]


def undominated(plan: Sequence[Phase], micro_batch: int | None, processes: int) -> list[Phase]:
    """The phases that could be the worst: no other has as many images in a pass and in a batch, at as many pixels.

    A larger stage has all layers of a smaller one, and a fade all of the stage that holds.
    """

    def cost(phase: Phase) -> tuple[int, int, int, bool]:
        share = phase.batch_size // processes
        return phase.resolution, min(micro_batch or share, share), share * phase.resolution**2, phase.fades

    costs = dict.fromkeys(map(cost, plan))
    worse = {a: any(a != b and all(x <= y for x, y in zip(a, b, strict=True)) for b in costs) for a in costs}
    return list({cost(phase): phase for phase in plan if not worse[cost(phase)]}.values())


def gb(count: float) -> str:
    """In 1e9 bytes, as the status line has it."""
    return f"{count / 1e9:.2f} GB" if count < 1e10 else f"{count / 1e9:.1f} GB"


@dataclass(frozen=True)
class _Silent(World):
    """The same number of processes, and none to talk to."""

    def all_reduce_sum_(self, tensor: Tensor) -> Tensor:
        return tensor
