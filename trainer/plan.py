"""Plan a run of stage 2 before it starts: memory, FLOPs, traffic, days, the size of a checkpoint.

FLOPs and activations are those of the real step, run on fake tensors, which take no memory.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import get_args

import torch

from common.errors import joined
from models import Encoder, freeze
from trainer.config.schema import GanConfig
from trainer.config.sections import ResNetConfig, Strategy
from trainer.distributed.world import World
from trainer.memory.estimate import Estimator, Need, Training
from trainer.memory.flops import Flops
from trainer.memory.sharded_sizes import Network
from trainer.stages.gan import GanTraining
from trainer.steps.batches import pass_size
from trainer.steps.schedule import Phase

from .machine_rates import Rates
from .preflight import split_problems
from .steps import schedule

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
GAIN = 0.2  # of a process's memory: less is no reason to shard
WIDEST = 16_384  # nf_max up to which a gain is looked for
CHANNELS = 3


@dataclass(frozen=True)
class ResolutionPlan:
    """The phases of one resolution: its fade, if it has one, and the phase after it.

    worst: the phase that needs the most memory; images: of all its phases; flops: per image after the fade, with R1 at
    its interval; memory: of one process, by strategy.
    """

    worst: Phase
    images: int
    flops: float
    days: float
    memory: dict[Strategy, Need]


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    networks: G and D, by name; sent: bytes that each process sends in one iteration, by strategy; state: bytes of a
    checkpoint; saving: seconds that it takes, all processes writing their part.
    """

    processes: int
    resolutions: list[ResolutionPlan]
    networks: dict[str, Network]
    sent: dict[Strategy, float]
    state: int
    saving: float

    @property
    def days(self) -> float:
        """Days of the whole run."""
        return sum(row.days for row in self.resolutions)


class Planner:
    """Plans a config for a number of processes, each with a device of its own. None of them need exist."""

    def __init__(self, config: GanConfig, processes: int) -> None:
        """Raise a UserError where batches do not split over the processes."""
        world = World(0, processes, torch.device("cpu"), None)
        self.config, self.processes = config, processes
        self.phases = schedule.gan_phases(config)
        self.strategies = STRATEGIES if processes > 1 else STRATEGIES[:1]
        problems = split_problems(config, self.phases, world)
        if problems:
            raise joined(f"the run cannot start on {processes} processes", problems)
        encoder = freeze(Encoder(CHANNELS, config.c_dim)) if config.code_source == "posterior" else None
        self.estimator = Estimator(_training, encoder, CHANNELS, world)

    def plan(self, rates: Rates, images_per_second: float | None = None) -> Plan:
        """Plan the run.

        images_per_second: of all processes at full resolution, instead of rates; lower resolutions by their FLOPs.
        """
        networks, state = self.networks()
        return Plan(
            self.processes,
            self.resolutions(rates, images_per_second),
            networks,
            {s: bytes_sent(s, networks, self.config, self.processes) for s in self.strategies},
            state,
            state / self.processes / rates.save_bytes_per_second,
        )

    def networks(self) -> tuple[dict[str, Network], int]:
        """Return the sizes of G and D, and the bytes of everything that a checkpoint holds."""
        with self.estimator.training(self.config, self.config.strategy) as (training, _):
            followers = len(training.averages.settings)
            state = sum(tensor.nbytes for tensor in training.state.state_dict().values())
            return {"G": Network.of(training.g, followers), "D": Network.of(training.d, 0)}, state

    def resolutions(self, rates: Rates, images_per_second: float | None) -> list[ResolutionPlan]:
        """Plan each resolution. Its fade and what follows need the same memory except for a few thin layers."""
        rows = []
        total = schedule.interval(self.config.schedule.total_kimg)
        for resolution in dict.fromkeys(phase.resolution for phase in self.phases):
            phases = [phase for phase in self.phases if phase.resolution == resolution]
            images = {phase: images_of(phase, total) for phase in phases}
            work = sum(images[phase] * self.flops[phase] for phase in phases)
            if images_per_second is None:
                flops_per_second = rates.at(resolution) * self.processes
            else:
                flops_per_second = images_per_second * self.flops[self.phases[-1]]
            days = work / flops_per_second / 86_400
            first, last = phases[0], phases[-1]
            rows.append(ResolutionPlan(first, sum(images.values()), self.flops[last], days, self.memory[first]))
        return rows

    @functools.cached_property
    def memory(self) -> dict[Phase, dict[Strategy, Need]]:
        """What the first phase of each resolution needs, by strategy: its fade, or the start of the run."""
        first = {phase.resolution: phase for phase in reversed(self.phases)}
        phases = list(first.values())
        return dict(zip(phases, self.estimator.needs(self.config, phases, self.strategies), strict=True))

    @functools.cached_property
    def flops(self) -> dict[Phase, float]:
        """FLOPs per image in each phase, with R1 at its interval: products and convolutions, as torch counts them."""
        interval = self.config.r1_interval
        return {
            phase: (with_r1 + (interval - 1) * without_r1) / interval
            for phase, (with_r1, without_r1) in self.iteration_flops.items()
        }

    @functools.cached_property
    def iteration_flops(self) -> dict[Phase, tuple[float, float]]:
        """FLOPs per image in each phase: of an iteration with R1, and of one without.

        R1 is due in the first iteration of a run. The second is one without, unless R1 is due in every iteration.
        """
        second = self.phases[0].batch_size if self.config.r1_interval > 1 else 0
        with self.estimator.training(self.config, self.config.strategy, alone=True) as (training, _):
            return {
                phase: (self._flops_per_image(training, phase, 0), self._flops_per_image(training, phase, second))
                for phase in self.phases
            }

    def _flops_per_image(self, training: Training, phase: Phase, images_seen: int) -> float:
        with Flops() as counted:
            images = self.estimator.iterate(training, phase, self.config, images_seen)
        return counted.total / min(2 * images, phase.batch_size // self.processes)

    def sharding_gain(self, plan: Plan) -> str:
        """Say what fsdp2 saves where a run needs most memory, and from which width on sharding is worth it."""
        if self.processes == 1:
            return "One process has nothing to shard."
        phase = max(plan.resolutions, key=lambda row: row.memory["ddp"].bytes).worst
        saving = self._saving(self.config, phase)
        difference = f"{abs(saving):.0%} {'less' if saving > 0 else 'more'}"
        fact = f"with the same passes fsdp2 takes {difference} memory than ddp at {phase.resolution} px"
        if saving >= GAIN:
            return f"Sharding pays here: {fact}."
        network = self._narrowest_that_gains(phase)
        if network is None:
            return f"Sharding gains nothing here: {fact}, and no width up to nf_max={WIDEST} makes it {GAIN:.0%}."
        width = f"network.nf={network.nf} network.nf_max={network.nf_max}"
        return f"Sharding gains nothing here: {fact}; {GAIN:.0%} less needs {width} or wider."

    def _narrowest_that_gains(self, phase: Phase) -> ResNetConfig | None:
        """Double the width until sharding is worth it; None where no width up to WIDEST makes it so."""
        network = self.config.network
        while isinstance(network, ResNetConfig) and network.nf_max < WIDEST:
            double = {"nf": 2 * network.nf, "nf_max": 2 * network.nf_max}
            network = network.model_copy(
                update={**double, "generator_nf": network.generator_nf and 2 * network.generator_nf}
            )
            if self._saving(self.config.model_copy(update={"network": network}), phase) >= GAIN:
                return network
        return None

    def _saving(self, config: GanConfig, phase: Phase) -> float:
        """Return the part of a process's memory that fsdp2 saves against ddp with the same passes.

        As if compiled: R1 then takes its two passes under both. What ddp takes for doing with one is no gain of shards.
        """
        compiled = config.model_copy(update={"compile": True})
        (needs,) = self.estimator.needs(compiled, [phase], ["ddp", "fsdp2"])
        return 1 - needs["fsdp2"].bytes / needs["ddp"].bytes


def images_of(phase: Phase, total: int) -> int:
    """Return the images of a phase in a run of `total` images."""
    return max(min(phase.last or total, total) - phase.first, 0)


def bytes_sent(strategy: Strategy, networks: dict[str, Network], config: GanConfig, processes: int) -> float:
    """Return the bytes that a process sends in one iteration, in ring algorithms.

    A sum that all processes get is sent twice. ZeRO-1 sums gradients once and gathers weights; ZeRO-2 sums them in
    every backward pass. Split weights are gathered for G's two forward passes and a backward one; for D's, forward and
    backward, on reals, fakes and in G's step, where ZeRO-3 keeps them from one to the next; for the two passes of R1,
    and of R2; and for the two more of a relativistic objective. Every backward pass that trains scatters gradients.
    """
    g, d = networks["G"].weights, networks["D"].weights
    part = (processes - 1) / processes
    share = config.batch_size // processes
    pieces = share // pass_size(share, config.micro_batch)
    more = sum(2 / config.r1_interval for weight in (config.r1, config.r2) if weight)
    more += 2 if config.objective == "relativistic" else 0
    totals: dict[Strategy, float] = {
        "ddp": 2 * (g + d),
        "zero1": 3 * (g + d),
        "zero2": (2 * pieces + 1) * g + (4 * pieces + 1) * d,
        "zero3": pieces * (4 * g + (6 + more) * d),
        "fsdp2": pieces * (4 * g + (8 + more) * d),
    }
    return part * totals[strategy]


def _training(config: GanConfig, world: World, encoder: torch.nn.Module | None) -> GanTraining:
    """Build the training of a config on images of CHANNELS channels."""
    return GanTraining(config, world, CHANNELS, encoder)
