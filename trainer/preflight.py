"""The checks before the first step: inputs, batches that do not split, programs, memory, evaluation jobs.

Everything that is wrong is raised as one error. Only then is the stage built.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from common import paths
from common.errors import UserError, joined
from data_shards.read import shared_memory
from data_shards.read.loader import PREFETCH
from trainer.config.feature_networks import FILES, default_protocol, verified_sha256
from trainer.config.schema import GanConfig, RunConfig, VaeConfig
from trainer.distributed.engines import zero
from trainer.distributed.world import World
from trainer.jobs.evaluation_jobs import command_problem
from trainer.reporting import tracker_kinds
from trainer.stages.base import DTYPES, Stage
from trainer.stages.data import Data, cache_of, labels_of, open_data
from trainer.stages.gan import GanInputs, GanStage, GanTraining
from trainer.stages.vae import VaeStage, vae_phases
from trainer.steps.schedule import Phase

from .checkpoints import initial_networks, published
from .checkpoints.initial_networks import InitialNetworks
from .encoders import frozen
from .labels.label_table import LabelTable
from .memory import estimate, fit, free_memory
from .resume import FROM_SCRATCH, ResumePoint
from .steps import compilation, networks, schedule
from .steps.autocast import warn_if_emulated

log = logging.getLogger(__name__)
T = TypeVar("T")

# By family of data sets (what stands before a dash): settings that its images have no use for, and why.
_USELESS = {
    "dsprites": (("flip", "dequantise"), "the dSprites family has neither"),
    "stacked": (("flip", "dequantise"), "stacked sprites have neither, as dSprites"),
    "faces": (("flip",), "drawn faces are never mirrored: partings and winks sit on one side"),
}


def build_stage(config: VaeConfig | GanConfig, world: World, start: ResumePoint) -> Stage:
    """Check everything, and build the stage of a config. Raises one UserError with everything that is wrong."""
    if world.is_main:
        warn_if_emulated(config, world.device)
    if isinstance(config, GanConfig):
        return gan_stage(config, world, start)
    return VaeStage(config, world, vae_data(config, world, start))


def gan_stage(config: GanConfig, world: World, start: ResumePoint = FROM_SCRATCH) -> GanStage:
    """Build stage 2. Raises one UserError with everything that is wrong."""
    return GanStage(config, world, gan_inputs(config, world, start))


def vae_data(config: VaeConfig, world: World, start: ResumePoint) -> Data:
    """Open the data of stage 1. Raises one UserError with everything that is wrong."""
    phases = vae_phases(config)
    problems = Problems([*split_problems(config, phases, world), *_tracker_problems(config, world)])
    data = problems.collect(lambda: open_data(config.data, config.seed, file=start.data_file))
    problems.collect(lambda: cache_of(config.data))
    if data:
        problems.messages += _shared_memory_problems(config, phases, data, world)
    problems.raise_any()
    assert data is not None
    return data


def gan_inputs(config: GanConfig, world: World, start: ResumePoint) -> GanInputs:
    """Open the data and the frozen encoder of stage 2. Raises one UserError with everything that is wrong.

    Phases of growth that are over at `start` are not checked.
    """
    phases = _phases_ahead(config, start)
    problems = Problems(split_problems(config, phases, world))
    problems.messages += [*_program_problems(config, world), *_tracker_problems(config, world), *watch_problems(config)]
    resolutions = [phase.resolution for phase in phases]
    needs_encoder = config.code_source == "posterior"
    data = problems.collect(lambda: open_data(config.data, config.seed, resolutions, needs_encoder, start.data_file))
    problems.collect(lambda: cache_of(config.data))
    vae = config.vae
    encoder = None if vae is None else problems.collect(lambda: _load_encoder(vae, start))
    if encoder:
        problems.messages += _encoder_problems(config, encoder, data, world)
    labels = problems.collect(lambda: _labels(config, data, world))
    y_dim = labels.labels.dim if labels else 0
    initial = problems.collect(lambda: _initial_networks(config, y_dim, start))
    if data:
        problems.messages += _shared_memory_problems(config, phases, data, world)
    if data and initial:
        problems.messages += _start_from(initial, config, (data.channels, y_dim), world)
    pass_sizes: dict[int, int] = {}
    if data and not problems.messages:  # else the step cannot be tried
        pass_sizes, found = _fit_memory(config, data.channels, labels, encoder, world, start)
        problems.messages += found
    if data:
        problems.messages += _evaluation_problems(config, data.main.manifest.data_set, world)
        problems.messages += _useless_settings(config, data)
    problems.raise_any()
    assert data is not None
    return GanInputs(data, encoder, phases[0].first, initial, pass_sizes, labels)


def _labels(config: GanConfig, data: Data | None, world: World) -> LabelTable | None:
    """Read the labels of the images, where the config names some, and say how many have no class."""
    labels = labels_of(config, data) if data else None
    for name, count in labels.without_a_class().items() if labels and world.is_main else ():
        log.warning("warning: labels: %s images have no %s; they train with none", f"{count:,}", name)
    return labels


def split_problems(config: RunConfig, phases: Sequence[Phase], world: World) -> list[str]:
    """List batches that do not split evenly over processes, and a strategy with nothing to split."""
    problems = []
    if isinstance(config, GanConfig) and config.strategy != "ddp" and world.size == 1:
        problems.append(f"strategy: {config.strategy} splits over processes, and there is one; set strategy=ddp")
    for batch in dict.fromkeys(phase.batch_size for phase in phases):
        key = "batch_size" if batch == config.batch_size else "growth.batch_size"
        if batch % world.size:
            problems.append(f"{key}: {batch} does not divide by {world.size} processes; choose a multiple")
    return problems


def _shared_memory_problems(config: RunConfig, phases: Sequence[Phase], data: Data, world: World) -> list[str]:
    """List a /dev/shm that the batches of the loaders' workers do not fit in."""
    workers = config.data.workers
    if not workers:
        return []
    share = max(p.batch_size // world.size * data.batch_bytes_per_image(p.resolution) for p in phases)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    problem = shared_memory.problem(share * PREFETCH * workers * local, workers)
    return [problem] if problem else []


def _program_problems(config: GanConfig, world: World) -> list[str]:
    """List programs that the settings need and this machine lacks."""
    problems = Problems([])
    if config.compile:
        problems.collect(lambda: compilation.check_compiler(world.device))
    if config.strategy in zero.STAGES:
        problems.collect(lambda: zero.import_deepspeed(config.strategy, world.device))
    return problems.messages


def _tracker_problems(config: RunConfig, world: World) -> list[str]:
    """List trackers that are not installed where the main process runs, which alone sends to them."""
    return tracker_kinds.missing_packages(config.trackers) if world.is_main else []


def watch_problems(config: GanConfig) -> list[str]:
    """List what would keep a watch that stops or rewinds from finding a sign, or a checkpoint from before it."""
    watch, times = config.watch, config.schedule
    if watch is None or watch.action == "warn":
        return []
    needed, problems = watch.ticks * times.tick_kimg, []
    if needed > times.total_kimg:
        problems.append(
            f"watch.ticks: {watch.ticks} ticks of {times.tick_kimg:g} kimg are longer than the run (schedule.total_kimg"
            f": {times.total_kimg:g}), so no sign would count; lower watch.ticks or schedule.tick_kimg"
        )
    if watch.from_kimg >= times.total_kimg:
        problems.append(
            f"watch.from_kimg: {watch.from_kimg:g}, but the run ends at schedule.total_kimg: {times.total_kimg:g}, so "
            "no sign would count; set watch.from_kimg lower"
        )
    keep = math.ceil(max(needed, watch.from_kimg) / times.save_kimg) + 1
    if watch.action == "rewind" and times.keep_last < keep:
        problems.append(
            f"schedule.keep_last: {times.keep_last} checkpoints, one every {times.save_kimg:g} kimg: none from before "
            f"a sign would be left for watch.action: rewind when the sign counts; set schedule.keep_last={keep}, or a "
            "larger schedule.save_kimg"
        )
    return problems


def weights_problem(config: GanConfig, data_set: str) -> str | None:
    """Say why the evaluation jobs of a run would find no Inception weights.

    None where they find them, or where another command than slurm/eval_fid.sh chooses them.
    """
    if not config.evaluation.submit or "eval_fid.sh" not in config.evaluation.command:
        return None
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--protocol", default=default_protocol(data_set))
    parser.add_argument("--weights", type=paths.typed)
    parser.add_argument("--reference")  # names its protocol itself
    given = os.environ.get("EVALUATION", "")
    try:
        options, _ = parser.parse_known_args(shlex.split(given))
    except (argparse.ArgumentError, ValueError) as error:
        return f"EVALUATION: {given!r}: {error}; correct it in slurm/site.env"
    if options.protocol == "dinov2" and (options.weights is None or not options.weights.is_file()):
        return f"EVALUATION: {given!r}: --protocol dinov2 needs --weights FILE of DINOv2, a file that is there"
    if options.protocol not in FILES or options.reference:
        return None
    weights = options.weights or getattr(config.inception, options.protocol)
    try:
        verified_sha256(options.protocol, weights, config.inception.clean_sha256)
    except UserError as error:
        return f"evaluation.submit: its jobs cannot run: {error}; or set evaluation.submit=false"
    return None


def _load_encoder(path: Path, start: ResumePoint) -> frozen.FrozenEncoder:
    """Load the frozen encoder. An error names the copy that the run kept, if there is one."""
    try:
        return frozen.load(path)
    except UserError as error:
        kept = frozen.saved_path(start.run) if start.run else None
        if kept is None:
            raise
        raise UserError(f"{error}; the encoder that this run started with is kept as vae={kept}") from None


def _encoder_problems(config: GanConfig, encoder: frozen.FrozenEncoder, data: Data | None, world: World) -> list[str]:
    """List what of the encoder does not fit the config and the data, and warn of what may not."""
    _warn_of_another_drawing(config, data, world)
    problems = []
    if encoder.c_dim != config.c_dim:
        actual, wanted = encoder.c_dim, config.c_dim
        problems.append(f"c_dim: the config has {wanted}, the encoder of {config.vae} has {actual}; set c_dim={actual}")
    if data and encoder.channels != data.channels:
        problems.append(
            f"vae: {config.vae} sees {encoder.channels} channels, the data {data.channels}; train stage 1 on the same "
            "data.path and data.variant"
        )
    return problems


def _warn_of_another_drawing(config: GanConfig, data: Data | None, world: World) -> None:
    """Warn where the encoder of an export learnt faces that are drawn otherwise than the data. Sprites never change."""
    learnt = frozen.drawing_of(config.vae) if config.vae and data and world.is_main else None
    if data is None or learnt is None:
        return
    manifest, (data_set, drawn_by) = data.main.manifest, learnt
    if data_set == manifest.data_set and data_set.startswith("faces") and not manifest.is_drawn_as(drawn_by):
        log.warning(
            "warning: vae: %s learnt faces of other versions of the style, or other factors, than those of "
            "data.path=%s; its code may say less of these",
            config.vae,
            config.data.path,
        )


def _initial_networks(config: GanConfig, y_dim: int, start: ResumePoint) -> InitialNetworks | None:
    """Read the networks that a run starts from; where it resumes, only what is recorded of them."""
    if config.init_from is None:
        return None
    if not start.images_seen or start.run is None:
        initial = initial_networks.load(config.init_from)
        return initial_networks.with_inputs(initial, config, y_dim)
    step = published.newest(start.run)
    sha256 = published.read_manifest(step)["facts"].get("init_from") if step else None
    return InitialNetworks(config.init_from, sha256, {}, "") if sha256 else None


def _start_from(initial: InitialNetworks, config: GanConfig, sizes: tuple[int, int], world: World) -> list[str]:
    """Log what a new run takes of other networks, and list what does not fit.

    sizes: channels of the images, and the size of the label vectors.
    """
    if not initial.tensors:
        return []
    with torch.device("meta"):
        made: dict[str, nn.Module] = {
            "generator": networks.generator(config, *sizes),
            "discriminator": networks.discriminator(config, *sizes),
        }
        if config.optimizer_q is not None:
            made["q"] = networks.joint_q(config, sizes[0])
    wanted = {f"{which}.{name}": t.shape for which, network in made.items() for name, t in network.state_dict().items()}
    problems = initial_networks.problems(initial, wanted, sizes[0], config.data.variant)
    problems += _frozen_problems(initial, config, sizes[0])
    if world.is_main and not problems:
        encoder = config.vae if config.code_source == "posterior" else None
        log.info(initial_networks.report(initial, wanted, encoder))
    return problems


def _frozen_problems(initial: InitialNetworks, config: GanConfig, channels: int) -> list[str]:
    """List a block that `freeze_d` would keep untrained, because the source does not give it."""
    with torch.device("meta"):
        d = networks.discriminator(config, channels)
    fresh = [name for name in sorted(networks.frozen(config, d)) if initial.tensor(f"discriminator.{name}") is None]
    if fresh:
        return [
            f"freeze_d: {config.freeze_d}: {initial.source} has no discriminator.{fresh[0]}, which would stay "
            "untrained; name a run of this resolution in init_from, or its export with D (export --discriminator), or "
            "set freeze_d=0"
        ]
    return []


def _fit_memory(
    config: GanConfig,
    channels: int,
    labels: LabelTable | None,
    encoder: frozen.FrozenEncoder | None,
    world: World,
    start: ResumePoint,
) -> tuple[dict[int, int], list[str]]:
    """Log how much memory the run will need, and list a problem where there is less.

    Also returns the sizes of passes by resolution, where `micro_batch: auto` chooses them and the free memory is known.
    """

    def build(config: GanConfig, world: World, encoder: nn.Module | None) -> GanTraining:
        fakes = None if labels is None else labels.as_many_zeros()  # made here, they are fakes as all tensors
        return GanTraining(config, world, channels, encoder, fakes)

    module = encoder.to(torch.device("cpu"), DTYPES[config.precision]) if encoder else None
    estimator = estimate.Estimator(build, module, channels, world, lambda config: _phases_ahead(config, start))
    free = free_memory.free_bytes(world)
    if config.micro_batch == "auto" and free is not None:
        largest = fit.largest_passes(estimator, config, free)
        need = max(largest.values(), key=lambda need: need.bytes)
        sizes = {resolution: need.images for resolution, need in largest.items()}
    else:
        need, sizes = estimator.need(config), {}
    if world.is_main:
        log.info(need.line(free))
        if sizes:
            log.info("micro_batch: auto: %s", ", ".join(f"{n} images a pass at {r} px" for r, n in sizes.items()))
    problem = None if free is None else fit.problem(estimator, config, need, free)
    return sizes, [problem] if problem else []


def _evaluation_problems(config: GanConfig, data_set: str, world: World) -> list[str]:
    """List why evaluation jobs could not be submitted, or would fail."""
    problems = [weights_problem(config, data_set)]
    if world.is_main and config.evaluation.submit:  # the main process submits them
        problems.append(command_problem(config.evaluation))
    return [problem for problem in problems if problem]


def _useless_settings(config: GanConfig, data: Data) -> list[str]:
    """List settings that the images of a drawn data set have no use for."""
    keys, reason = _USELESS.get(data.main.manifest.data_set.partition("-")[0], ((), ""))
    return [f"data.{key}: true, but {reason}; set data.{key}=false" for key in keys if getattr(config.data, key)]


def _phases_ahead(config: GanConfig, start: ResumePoint) -> list[Phase]:
    """Return the phases that the run still comes to: one that is over need not fit the processes of today."""
    phases = schedule.gan_phases(config)
    return schedule.ahead(phases, start.images_seen, schedule.interval(config.schedule.total_kimg))


class Problems:
    """Everything that is wrong, raised as one error."""

    def __init__(self, messages: list[str]) -> None:
        self.messages = messages

    def collect(self, check: Callable[[], T]) -> T | None:
        """Return the result of a check, or note its UserError and return None."""
        try:
            return check()
        except UserError as error:
            self.messages += error.problems or (str(error),)
            return None

    def raise_any(self) -> None:
        """Raise one error with all problems, if there are any."""
        if self.messages:
            raise joined("the run cannot start", self.messages)
