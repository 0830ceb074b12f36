"""One training command from start to end: the run folder, the processes, the stage, the loop, the exit code."""

from __future__ import annotations

import gc
import logging
import sys
from functools import partial
from pathlib import Path

import torch

from common.atomic_writes import publish
from common.cli import EXIT_OK, EXIT_RESUME
from common.errors import UserError
from trainer.config.schema import GanConfig, RunConfig, VaeConfig
from trainer.config.settings import to_yaml, with_absolute_paths
from trainer.distributed.world import World, connect, disconnect
from trainer.jobs.exit_file import ExitRecord, typed_command
from trainer.jobs.run_lock import Lock
from trainer.jobs.signals import StopRequest
from trainer.memory.allocator import keep_freed_memory
from trainer.stages.base import Stage
from trainer.stages.gan import GanStage
from trainer.watch import rewinds
from trainer.watch.watch import RewindDue

from .checkpoints import go_back, listing, published
from .checkpoints.mirror import Mirror
from .jobs import startup_agreement
from .loop import Loop
from .preflight import build_stage
from .resume import OtherStart, ResumePoint, as_started, refuse_changes
from .training_command import TrainingCommand

log = logging.getLogger(__name__)


def train(command: TrainingCommand) -> None:
    """Train a config in its run folder, from the newest checkpoint there. RUN/exit.json says how it ended.

    Exits with 75 where a signal stopped the run, after a save.
    """
    run, typed = command.run, typed_command()
    lock = Lock(run)
    record = ExitRecord(lock, typed)
    with StopRequest().listening() as stop, record.recording():
        config = command.config(run)
        world = connect(config.device, config.processes, config.timeout_minutes, lambda: stop.reason, config.speed)
        if world.device.type == "cpu":
            keep_freed_memory()
        _take_folder(run, lock, world)
        record.write()
        world.on_main(lambda: _take_from_mirror(config, run))
        config = as_started(config, run)  # a checkpoint may have come only now
        signal, images_seen = _train(command, config, run, world, lock, stop)
        disconnect()
        _set_outcome(record, signal, images_seen)
    if record.code:
        if world.is_main:
            print(f"stopped: {record.reason}; resume with: {typed}", file=sys.stderr, flush=True)
        raise SystemExit(record.code)


def _train(
    command: TrainingCommand, config: VaeConfig | GanConfig, run: Path, world: World, lock: Lock, stop: StopRequest
) -> tuple[str | None, int]:
    """Train to the end or until a signal. Returns its name, None at the end, and the clock.

    After a rewind the run goes on as a resume would: with stage and loop built again.
    """
    if command.from_step is None:
        world.on_main(lambda: rewinds.complete(run))
    while True:
        try:
            return _train_from_newest(command, config, run, world, lock, stop)
        except RewindDue as due:
            past = due.rewinds
        gc.collect()  # the memory of stage and loop, before others are built
        if world.device.type == "cuda":
            torch.cuda.empty_cache()
        world.on_main(partial(rewinds.go, run, past))
        command = command._replace(from_step=None)


def _train_from_newest(
    command: TrainingCommand, config: VaeConfig | GanConfig, run: Path, world: World, lock: Lock, stop: StopRequest
) -> tuple[str | None, int]:
    """Build stage and loop, and train until the end, a signal or a rewind."""
    loop = _prepare(command, config, run, world, lock)
    world.on_main(lambda: _save_inputs(run, config, loop.stage))
    world.on_main(lambda: rewinds.record(run, loop.past))
    return loop.train(stop), loop.images_seen


def _take_folder(run: Path, lock: Lock, world: World) -> None:
    """Make the run folder and lock it for this job. All processes must see the same folder."""
    world.on_all(lambda: run.mkdir(parents=True, exist_ok=True))  # an error ends all of them
    world.on_main(lock.acquire)
    startup_agreement.one_folder(lock.path, world)


def _take_from_mirror(config: RunConfig, run: Path) -> None:
    """Look whether checkpoints can be copied to the mirror; a run without one gets the newest from there."""
    if config.schedule.mirror is None:
        return
    mirror = Mirror(config.schedule.mirror, run)
    mirror.check()
    if not published.steps(run) and (name := mirror.download(run)):
        log.info("%s: %s is copied back from %s", run, name, mirror.url)


def _prepare(command: TrainingCommand, config: VaeConfig | GanConfig, run: Path, world: World, lock: Lock) -> Loop:
    """Build stage and loop at the newest checkpoint that can be used.

    With --from-step an earlier checkpoint becomes the newest, once everything is checked. A stage is checked for the
    phases ahead of its start, and draws the random numbers of its rewinds. Where the newest checkpoint turns out to be
    unreadable, and the one before it stands in an earlier phase or after other rewinds, stage and loop are built again
    from there.
    """
    back_to = world.broadcast(world.on_main(lambda: _wanted_step(command, run)))
    start = _resume_point(command, run, world, back_to)
    while True:
        stage = _build_stage(config, world, start)
        if back_to is not None:
            _go_back(run, back_to, config, stage, world, command.accept_changes)
            back_to = None
        if command.pinned:
            world.on_main(lambda: startup_agreement.pin(run, config, command.accept_changes))
        try:
            return _build_loop(stage, config, run, world, lock, command.accept_changes, start)
        except OtherStart as other:  # raised on all processes
            start = start._replace(images_seen=other.images_seen, past=other.past)


def _wanted_step(command: TrainingCommand, run: Path) -> Path | None:
    """Find the checkpoint of --from-step, which a job that is requeued goes back to once."""
    return go_back.wanted(run, command.from_step) if command.from_step else None


def _resume_point(command: TrainingCommand, run: Path, world: World, step: Path | None) -> ResumePoint:
    """Return clock and rewinds of a checkpoint, None for the newest complete one, as the main process sees it."""

    def look() -> tuple[int, rewinds.Rewinds]:
        found = step or published.newest(run)
        past = rewinds.before(run, published.read_manifest(found) if found else None)
        return (published.clock_of(found) if found else 0), past

    images_seen, past = world.broadcast(world.on_main(look))
    return ResumePoint(run, images_seen, command.data_file, past)


def _go_back(
    run: Path, step: Path, config: VaeConfig | GanConfig, stage: Stage, world: World, accept_changes: bool
) -> None:
    """Set the later checkpoints aside, if the run can resume from this one."""

    def check_and_go() -> None:
        refuse_changes(run, published.read_manifest(step), config, dict(stage.input_identity), accept_changes)
        if problem := listing.unreadable(step):
            raise UserError(f"--from-step: {step.name} {problem}; choose another step")
        go_back.go_back(run, step)

    world.on_main(check_and_go)


def _build_stage(config: VaeConfig | GanConfig, world: World, start: ResumePoint) -> Stage:
    """Build the stage on every process, of the same code, settings and inputs.

    It draws its random numbers from the seed that follows the rewinds before its start.
    """
    seeded = config.model_copy(update={"seed": rewinds.seed_after(config.seed, len(start.past))})
    stage = world.on_all(lambda: build_stage(seeded, world, start))
    stage.pass_sizes = startup_agreement.smallest(stage.pass_sizes, world)
    startup_agreement.agree(startup_agreement.description(config, stage.input_identity), world)
    return stage


def _build_loop(
    stage: Stage,
    config: RunConfig,
    run: Path,
    world: World,
    lock: Lock,
    accept_changes: bool,
    start: ResumePoint,
) -> Loop:
    return world.on_all(lambda: Loop(stage, config, run, world, lock, accept_changes, start.past))


def _save_inputs(run: Path, config: RunConfig, stage: Stage) -> None:
    """Write RUN/config.yaml with every default and absolute paths, and the frozen encoder, if any, beside it."""
    painting = stage.data.painting
    head = "" if painting is None else f"# painting: {painting.source}, sha256 {painting.sha256}\n"
    publish(run / "config.yaml", (head + to_yaml(with_absolute_paths(config))).encode())
    if painting is not None and config.data.painting is None:
        log.warning(
            "warning: data.painting is not set: sprites are drawn on a procedural texture, not on Munch's painting as "
            "in the paper; name an image of it for that"
        )
    if isinstance(stage, GanStage) and stage.frozen_encoder:
        stage.frozen_encoder.save(run)


def _set_outcome(record: ExitRecord, signal: str | None, images_seen: int) -> None:
    """Note how training ended. signal: the name of the one that stopped it, or None where it is complete."""
    if signal is None:
        record.code, record.reason = EXIT_OK, "complete"
        return
    saved = "saved" if images_seen else "nothing to save yet"
    record.code, record.reason = EXIT_RESUME, f"{signal} at {images_seen} images, {saved}"
