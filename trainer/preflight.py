"""All that is refused before the first step: inputs, batches that do not split, memory. Then the stage is built."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import nn

from common.errors import UserError, joined
from trainer.config.schema import GanConfig, RunConfig, VaeConfig
from trainer.distributed.world import World
from trainer.jobs.evaluation_jobs import weights_problem
from trainer.stages.base import DTYPES, FROM_SCRATCH, ResumePoint
from trainer.stages.data import open_data
from trainer.stages.gan import GanInputs, GanStage, GanTraining
from trainer.stages.vae import VaeStage, vae_phases
from trainer.steps.schedule import Phase

from .encoders import frozen
from .memory import estimate, fit, free_memory
from .steps import schedule

log = logging.getLogger(__name__)
T = TypeVar("T")


def vae_stage(config: VaeConfig, world: World, start: ResumePoint = FROM_SCRATCH) -> VaeStage:
    """Stage 1, or a UserError with everything that is wrong."""
    problems = Problems(split_problems(config, vae_phases(config), world))
    return VaeStage(config, world, problems.need(lambda: open_data(config.data, config.seed)))


def gan_stage(config: GanConfig, world: World, start: ResumePoint = FROM_SCRATCH) -> GanStage:
    """Stage 2, or a UserError with everything that is wrong."""
    return GanStage(config, world, gan_inputs(config, world, start))


def split_problems(config: RunConfig, plan: Sequence[Phase], world: World) -> list[str]:
    """Batches that do not split evenly over processes and micro-batches, in whatever stage; nothing to split over."""
    problems = []
    if isinstance(config, GanConfig) and config.strategy != "ddp" and world.size == 1:
        problems.append(f"strategy: {config.strategy} splits over processes, and there is one; set strategy=ddp")
    for batch in dict.fromkeys(phase.batch_size for phase in plan):
        key = "batch_size" if batch == config.batch_size else "growth.batch_size"
        share, rest = divmod(batch, world.size)
        if rest:
            problems.append(f"{key}: {batch} does not divide by {world.size} processes; choose a multiple")
        elif config.micro_batch and share % config.micro_batch:
            problems.append(
                f"micro_batch: {config.micro_batch} does not divide the {share} images of each process "
                f"({key}: {batch}); choose a divisor"
            )
    return problems


def gan_inputs(config: GanConfig, world: World, start: ResumePoint) -> GanInputs:
    """Data and the frozen encoder, or one error with everything that does not fit."""
    plan = _ahead(config, start)
    problems = Problems(split_problems(config, plan, world))
    sizes = [phase.resolution for phase in plan]
    data = problems.collect(lambda: open_data(config.data, config.seed, sizes, config.code_source == "posterior"))
    path = config.vae
    q = problems.collect(lambda: _encoder(path, start)) if path is not None else None
    if q and q.c_dim != config.c_dim:
        problems.add(f"c_dim: the config has {config.c_dim}, the encoder of {path} has {q.c_dim}; set c_dim={q.c_dim}")
    if q and data and q.channels != data.channels:
        problems.add(
            f"vae: {path} sees {q.channels} channels, the data {data.channels}; train stage 1 on the same "
            "data.path and data.variant"
        )
    if data and not problems.found:  # else the step cannot be tried
        problems.found += _memory_problems(config, data.channels, q, world, start)
    if data and (missing := weights_problem(config, data.main.manifest.data_set)):
        problems.add(missing)
    if data and data.main.manifest.data_set == "dsprites":
        for key in ("flip", "dequantise"):
            if getattr(config.data, key):
                problems.add(f"data.{key}: true, but the dSprites family has neither; set data.{key}=false")
    problems.stop()
    assert data is not None
    return GanInputs(data, q, plan[0].first)


def _encoder(path: Path, start: ResumePoint) -> frozen.FrozenEncoder:
    try:
        return frozen.load(path)
    except UserError as error:
        kept = frozen.saved_path(start.run) if start.run else None
        if kept is None:
            raise
        raise UserError(f"{error}; the encoder that this run started with is kept as vae={kept}") from None


def _ahead(config: GanConfig, start: ResumePoint) -> list[Phase]:
    """What the run still comes to: a stage that is over need not fit the processes of today."""
    plan = schedule.gan_phases(config)
    return schedule.ahead(plan, start.images_seen, schedule.interval(config.schedule.total_kimg))


def _memory_problems(
    config: GanConfig, channels: int, q: frozen.FrozenEncoder | None, world: World, start: ResumePoint
) -> list[str]:
    """Tell how much memory the run will need; refuse what cannot fit."""
    encoder = q.to(torch.device("cpu"), DTYPES[config.precision]) if q else None

    def build(config: GanConfig, world: World, encoder: nn.Module | None) -> GanTraining:
        return GanTraining(config, world, channels, encoder)

    estimator = estimate.Estimator(build, encoder, channels, world, lambda config: _ahead(config, start))
    free = free_memory.free_bytes(world)
    need = estimator.need(config)
    if world.is_main:
        log.info(need.line(free))
    problem = None if free is None else fit.problem(estimator, config, need, free)
    return [problem] if problem else []


class Problems:
    """Everything that is wrong, raised at once."""

    def __init__(self, found: list[str]) -> None:
        self.found = found

    def add(self, problem: str) -> None:
        self.found.append(problem)

    def collect(self, check: Callable[[], T]) -> T | None:
        """The result, or None where it raised a UserError."""
        try:
            return check()
        except UserError as error:
            self.add(str(error))
            return None

    def need(self, check: Callable[[], T]) -> T:
        """The last result, after which all that was found is raised."""
        result = self.collect(check)
        self.stop()
        return cast(T, result)

    def stop(self) -> None:
        if self.found:
            raise joined("the run cannot start", self.found)
