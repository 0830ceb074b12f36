"""python -m trainer plan CONFIG: what a run will take, on paper.

FLOPs and activations are those of the real step, run on fake tensors, which take no memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from pydantic import Field, PositiveFloat
from rich.console import Console
from rich.table import Table

from common.errors import joined
from models import Encoder, freeze
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.config.sections import ResNetConfig, Strategy
from trainer.config.settings import Settings
from trainer.distributed.world import World
from trainer.memory.estimate import Estimator, Need, Training, gb
from trainer.memory.flops import Flops
from trainer.memory.sharded_sizes import Network, kept
from trainer.stages.gan import GanTraining
from trainer.steps.schedule import Phase

from .preflight import split_problems
from .steps import schedule

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
GAIN = 0.2  # of a process's memory: less is no reason to shard
WIDEST = 16_384  # nf_max up to which a gain is looked for
CHANNELS = 3
RATES = Path(__file__).parent / "rates" / "cpu.yaml"


class Rates(Settings):
    """A rates file, such as trainer/rates/cpu.yaml: what one process on a machine was measured to do."""

    machine: str = Field(description="what was measured, in words")
    flops_per_second: dict[int, PositiveFloat] = Field(min_length=1, description="by px, of benchmarks/step.py")
    save_bytes_per_second: PositiveFloat = Field(description="of benchmarks/saving.py")

    def at(self, resolution: int) -> float:
        """FLOP/s at the nearest resolution that was measured, in octaves; of two the larger."""
        return self.flops_per_second[min(self.flops_per_second, key=lambda r: (abs(math.log2(r / resolution)), -r))]


@dataclass(frozen=True)
class StagePlan:
    """A resolution: its fade, if it has one, and what holds after it. worst: the one that needs the most memory.

    images: in all; flops: per image while it holds, R1 at its interval; memory: of one process, by strategy.
    """

    worst: Phase
    images: int
    flops: float
    days: float
    memory: dict[Strategy, Need]


@dataclass(frozen=True)
class Plan:
    """networks: G and D, by name; state: bytes of a checkpoint; saving: seconds, all processes writing their part.

    sent: bytes that each process sends for one iteration, by strategy.
    """

    processes: int
    stages: list[StagePlan]
    networks: dict[str, Network]
    sent: dict[Strategy, float]
    state: int
    saving: float

    @property
    def days(self) -> float:
        return sum(stage.days for stage in self.stages)


class Planner:
    """A config for so many processes, each with its own device, none of which is there."""

    def __init__(self, config: GanConfig, processes: int) -> None:
        """Raises UserError where batches do not split over the processes."""
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
        """images_per_second: of all processes at full resolution, instead of rates; lower ones go by their FLOPs."""
        networks, state = self.networks()
        return Plan(
            self.processes,
            self.stages(rates, images_per_second),
            networks,
            {s: sent(s, networks, self.config, self.processes) for s in self.strategies},
            state,
            state / self.processes / rates.save_bytes_per_second,
        )

    def networks(self) -> tuple[dict[str, Network], int]:
        """Sizes of G and D, and the bytes of everything that a checkpoint holds."""
        with self.estimator.training(self.config) as (training, _):
            followers = len(training.averages.settings)
            state = sum(tensor.nbytes for tensor in training.state.state_dict().values())
            return {"G": Network.of(training.g, followers), "D": Network.of(training.d, 0)}, state

    def stages(self, rates: Rates, images_per_second: float | None) -> list[StagePlan]:
        """A line for each resolution, whose fade and hold need the same memory but for a few thin layers."""
        found, total = [], schedule.interval(self.config.schedule.total_kimg)
        for resolution in dict.fromkeys(phase.resolution for phase in self.phases):
            here = [phase for phase in self.phases if phase.resolution == resolution]
            images = {phase: images_of(phase, total) for phase in here}
            work = sum(images[phase] * self.flops[phase] for phase in here)
            if images_per_second is None:
                rate = rates.at(resolution) * self.processes
            else:
                rate = images_per_second * self.flops[self.phases[-1]]
            days = work / rate / 86_400
            found.append(StagePlan(here[0], sum(images.values()), self.flops[here[-1]], days, self.memory[here[0]]))
        return found

    @functools.cached_property
    def memory(self) -> dict[Phase, dict[Strategy, Need]]:
        """Of the first phase of each resolution: its fade, or what starts the run."""
        first = {phase.resolution: phase for phase in reversed(self.phases)}
        phases = list(first.values())
        return dict(zip(phases, self.estimator.needs(self.config, phases, self.strategies), strict=True))

    @functools.cached_property
    def flops(self) -> dict[Phase, float]:
        """Of one image in each phase, R1 at its interval: products and convolutions, as torch counts them."""
        every = self.config.r1_interval
        return {p: (due + (every - 1) * rest) / every for p, (due, rest) in self.iteration_flops.items()}

    @functools.cached_property
    def iteration_flops(self) -> dict[Phase, tuple[float, float]]:
        """Of one image in each phase: in an iteration with R1, which is due in the first of a run, and in one without
        (as in its second), where R1 is not due in every one."""
        second = self.phases[0].batch_size if self.config.r1_interval > 1 else 0
        with self.estimator.training(self.config, alone=True) as (training, _):
            return {p: (self._image(training, p, 0), self._image(training, p, second)) for p in self.phases}

    def _image(self, training: Training, phase: Phase, images_seen: int) -> float:
        with Flops() as counted:
            images = self.estimator.iterate(training, phase, self.config, images_seen)
        return counted.total / min(2 * images, phase.batch_size // self.processes)

    def gain(self, plan: Plan) -> str:
        """What fsdp2 saves in the largest stage, in words, and the width from which on that is worth it."""
        phase = max(plan.stages, key=lambda stage: stage.memory["ddp"].bytes).worst
        if self.processes == 1:
            return "One process has nothing to shard."
        now = self._saving(self.config, phase)
        told = f"fsdp2 takes {abs(now):.0%} {'less' if now > 0 else 'more'} memory than ddp in the largest stage"
        if now >= GAIN:
            return f"Sharding pays here: {told}."
        first = next(self._wide_enough(phase), None)
        if first is None:
            return f"Sharding gains nothing here: {told}, and no width up to nf_max={WIDEST} makes it {GAIN:.0%}."
        width = f"network.nf={first.nf} network.nf_max={first.nf_max}"
        return f"Sharding gains nothing here: {told}; {GAIN:.0%} less needs {width} or wider."

    def _wide_enough(self, phase: Phase) -> Iterator[ResNetConfig]:
        network = self.config.network
        while isinstance(network, ResNetConfig) and network.nf_max < WIDEST:
            double = {"nf": 2 * network.nf, "nf_max": 2 * network.nf_max}
            network = network.model_copy(
                update={**double, "generator_nf": network.generator_nf and 2 * network.generator_nf}
            )
            if self._saving(self.config.model_copy(update={"network": network}), phase) >= GAIN:
                yield network

    def _saving(self, config: GanConfig, phase: Phase) -> float:
        (needs,) = self.estimator.needs(config, [phase], ["ddp", "fsdp2"])
        return 1 - needs["fsdp2"].bytes / needs["ddp"].bytes


def images_of(phase: Phase, total: int) -> int:
    """Images of a phase in a run of so many."""
    return max(min(phase.last or total, total) - phase.first, 0)


def sent(strategy: Strategy, networks: dict[str, Network], config: GanConfig, processes: int) -> float:
    """Bytes that a process sends in one iteration, in ring algorithms; a sum that all get is sent twice.

    ZeRO-1 sums gradients once and gathers weights; ZeRO-2 sums them in every backward pass. Split weights are gathered
    for G's two forward passes and a backward one; for D's, forward and backward, on reals, fakes and in G's step, where
    ZeRO-3 keeps them from one to the next; and for R1's two. Every backward pass that trains scatters gradients.
    """
    g, d, part = networks["G"].weights, networks["D"].weights, (processes - 1) / processes
    pieces = max(config.batch_size // processes // (config.micro_batch or config.batch_size), 1)
    r1 = 2 / config.r1_interval if config.r1 else 0
    whole: dict[Strategy, float] = {
        "ddp": 2 * (g + d),
        "zero1": 3 * (g + d),
        "zero2": (2 * pieces + 1) * g + (4 * pieces + 1) * d,
        "zero3": pieces * (4 * g + (6 + r1) * d),
        "fsdp2": pieces * (4 * g + (8 + r1) * d),
    }
    return part * whole[strategy]


def rates(path: Path) -> Rates:
    """Raises UserError that names what is wrong with the file."""
    return load_config(Rates, path)


def show(plan: Plan, gain: str, title: str, speed: str) -> None:
    """Print a plan for a person. gain: of sharding, in words; speed: what the days are at."""
    console = Console(width=130)
    table = Table("px", "images", "batch", "GFLOP/image", "days", *(f"{s}, GB" for s in plan.sent), title=title)
    for stage in plan.stages:
        needs = [f"{need.bytes / 1e9:.2f}" for need in stage.memory.values()]
        work = [f"{stage.images:,}", str(stage.worst.batch_size), f"{stage.flops / 1e9:,.1f}", f"{stage.days:,.2f}"]
        table.add_row(str(stage.worst.resolution), *work, *needs)
    console.print(table)
    table = Table("", *plan.sent, title="bytes of one process")
    for name, cells in _kept(plan).items():
        table.add_row(name, *cells)
    console.print(table)
    console.print(
        f"{' and '.join(f'{name} has {gb(n.weights)}' for name, n in plan.networks.items())} of weights.\n"
        f"{plan.days:,.1f} days at {speed}, if {plan.processes} processes are as many times as fast as one.\n"
        f"A checkpoint has {gb(plan.state)}; all processes writing their part take {plan.saving:.1f} s.\n"
        f"{gain}",
        soft_wrap=True,
    )


def _kept(plan: Plan) -> dict[str, list[str]]:
    """Rows of the second table: what stays is the same in every stage, what comes and goes is not."""
    networks = list(plan.networks.values())
    of = [kept(s, networks, plan.processes) for s in plan.sent]
    rows = {
        "weights": [gb(k.weights) for k in of],
        "optimizer": [gb(k.optimizer) for k in of],
        "averages": [gb(k.averages) for k in of],
    }
    for stage in plan.stages:
        name = f"activations, gradients, buffers at {stage.worst.resolution} px"
        rows[name] = [gb(stage.memory[s].activations) for s in plan.sent]
    rows["sent in one iteration (rings)"] = [gb(count) for count in plan.sent.values()]
    return rows


def _training(config: GanConfig, world: World, encoder: torch.nn.Module | None) -> GanTraining:
    return GanTraining(config, world, CHANNELS, encoder)
