"""python -m trainer vae | gan CONFIG --dry-run: all that a run would do before its first step, and nothing more."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from common import terminal
from trainer.config.schema import GanConfig, VaeConfig
from trainer.config.settings import to_yaml, with_absolute_paths
from trainer.distributed.world import World, connect, disconnect
from trainer.stages.vae import vae_phases

from .checkpoints import go_back, published
from .jobs import startup_agreement
from .preflight import Problems, gan_inputs, vae_data
from .resume import ResumePoint, refuse_changes
from .steps import schedule
from .training_command import TrainingCommand


def dry_run(command: TrainingCommand) -> None:
    """Print the resolved config and the phases, and check all that a run checks before its first step.

    Nothing is trained or written, and the run folder is not locked. Raises one UserError with everything that is wrong.
    """
    run = command.run
    config = command.config(run)
    world = connect(config.device, config.processes, config.timeout_minutes)
    step = published.newest(run) if command.from_step is None else go_back.find(run, command.from_step)
    start = ResumePoint(run, world.broadcast(published.clock_of(step) if step else 0), command.data_file)
    if world.is_main:
        _print_plan(config, run, start)
    identity = world.on_all(lambda: _check(command, config, run, world, start, step))
    startup_agreement.agree(startup_agreement.description(config, identity), world)
    if world.is_main:
        print(f"the checks found no problem: {run} can {'resume' if start.images_seen else 'start'}")
    disconnect()


def _print_plan(config: VaeConfig | GanConfig, run: Path, start: ResumePoint) -> None:
    """Print the resolved config as YAML, the phases as a table, and where the run starts."""
    print(to_yaml(with_absolute_paths(config)))
    terminal.console(130).print(_phases_table(config))
    if start.images_seen:
        print(f"{run} resumes from its checkpoint at {start.images_seen:,} images")


def _phases_table(config: VaeConfig | GanConfig) -> Table:
    """Return a row per phase that begins before the end of the run."""
    phases = schedule.gan_phases(config) if isinstance(config, GanConfig) else vae_phases(config)
    total = schedule.interval(config.schedule.total_kimg)
    table = Table("px", "phase", "from image", "to image", "kimg", "batch size", title="phases")
    for phase in schedule.ahead(phases, 0, total):
        last = min(phase.last or total, total)
        kind = "fade" if phase.fades else "hold"
        cells = [f"{phase.first:,}", f"{last:,}", f"{(last - phase.first) / 1000:g}", str(phase.batch_size)]
        table.add_row(str(phase.resolution), kind, *cells)
    return table


def _check(
    command: TrainingCommand,
    config: VaeConfig | GanConfig,
    run: Path,
    world: World,
    start: ResumePoint,
    step: Path | None,
) -> dict[str, str | int]:
    """Run the checks of a start and, where there was one before, of a resume. Raise everything that is wrong.

    step: the checkpoint that it would resume from. Returns the identity of the inputs.
    """
    problems = Problems([])
    manifest = None if step is None else published.read_manifest(step)
    identity = problems.collect(lambda: _input_identity(config, world, start))
    if manifest:
        inputs = manifest["facts"] if identity is None else identity  # unknown: compare the settings alone
        problems.collect(lambda: refuse_changes(run, manifest, config, inputs, command.accept_changes))
    if command.pinned and not command.accept_changes and world.is_main:
        problems.collect(lambda: startup_agreement.refuse_another_start(run, config))
    problems.raise_any()
    assert identity is not None
    return identity


def _input_identity(config: VaeConfig | GanConfig, world: World, start: ResumePoint) -> dict[str, str | int]:
    """Check the inputs of a stage, and return what a resume must find unchanged of them."""
    if isinstance(config, GanConfig):
        return gan_inputs(config, world, start).identity
    return vae_data(config, world, start).identity
