"""python -m trainer vae | gan CONFIG [key.path=value ...], checkpoints RUN, export RUN OUT, plan CONFIG"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from common.atomic_writes import publish
from common.cli import EXIT_OK, EXIT_RESUME, explain
from common.cli import run as run_app
from common.errors import UserError
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, RunConfig, VaeConfig
from trainer.config.settings import to_yaml
from trainer.config.yaml_file import read_yaml
from trainer.distributed.world import World, connect, disconnect
from trainer.jobs.exit_file import write_exit
from trainer.jobs.run_lock import Lock
from trainer.jobs.signals import StopRequest
from trainer.memory.allocator import keep_freed_memory
from trainer.stages.base import ResumePoint, Stage
from trainer.stages.gan import GanStage

from . import plan as planning
from .checkpoints import listing, published
from .export import write
from .jobs import requeue, startup_agreement
from .loop import Loop
from .preflight import gan_stage, vae_stage
from .resume import EarlierStage

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train stage 1 (vae) or stage 2 (gan); a run folder with a checkpoint goes on. List, export, plan runs.",
)
Config = Annotated[Path, typer.Argument(help="a YAML file of configs/")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key.path=value, as in batch_size=32")]
Accept = Annotated[bool, typer.Option("--accept-changes", help="go on from a checkpoint of other settings")]
Pinned = Annotated[bool, typer.Option("--pinned", help="refuse code or settings other than those of the first start")]
RunFolder = Annotated[Path, typer.Argument(help="a run folder", metavar="RUN")]
C = TypeVar("C", bound=RunConfig)


@app.command()
def vae(config: Config, overrides: Overrides = None, accept_changes: Accept = False, pinned: Pinned = False) -> None:
    """Stage 1: VAE, beta-VAE or FactorVAE at 64 px."""
    _train(VaeConfig, vae_stage, config, overrides or [], accept_changes, pinned)


@app.command()
def gan(config: Config, overrides: Overrides = None, accept_changes: Accept = False, pinned: Pinned = False) -> None:
    """Stage 2: GAN, InfoGAN, cGAN or ID-GAN; the last two on the code of a trained VAE (vae=RUN)."""
    _train(GanConfig, gan_stage, config, overrides or [], accept_changes, pinned)


@app.command()
def checkpoints(run: RunFolder) -> None:
    """List a run's checkpoints, every tensor of them read."""
    found = listing.rows(run)
    table = Table("step", "images seen", "px", "MB", "is", title=str(run))
    for row in found:
        state = ", ".join(["valid" if row.problem is None else f"not usable: it {row.problem}", *row.pointers])
        table.add_row(row.name, f"{row.images_seen:,}", str(row.resolution or "?"), f"{row.bytes / 1e6:.1f}", state)
    Console(width=130).print(table)


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Argument(help="folder to make", metavar="OUT")],
    step: Annotated[str | None, typer.Option(help="a checkpoint, by name or images seen [default: the newest]")] = None,
    ema: Annotated[str | None, typer.Option(help="an average, or a file of one [default: the first]")] = None,
) -> None:
    """Write generator, encoder and codes as safetensors and JSON, for `trainer.load`."""
    facts = write.export(run, out, step, ema)
    print(f"wrote {out}: {facts.resolution} px, {facts.origin['step']}; open it with trainer.load({str(out)!r})")


@app.command()
def plan(
    config: Config,
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option(min=1, help="machines")] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="processes of a node")] = 1,
    images_per_second: Annotated[
        float | None, typer.Option(min=1e-9, help="of all processes at full resolution, instead of --rates")
    ] = None,
    rates: Annotated[
        Path, typer.Option(help="file of what one process was measured to do", show_default="2 CPU cores")
    ] = planning.RATES,
) -> None:
    """Say on paper what stage 2 will take: memory, FLOPs, traffic, days, checkpoints. Nothing is allocated or read."""
    read = load_config(GanConfig, config, overrides or [])
    measured = planning.rates(rates)
    paper = planning.Planner(read, nodes * gpus_per_node)
    found = paper.plan(measured, images_per_second)
    speed = f"{images_per_second:g} images/s at full resolution" if images_per_second else measured.machine
    planning.show(found, paper.gain(found), f"{config}, {nodes} x {gpus_per_node} processes", speed)


@app.command()
def settle(
    run: RunFolder,
    job: Annotated[str, typer.Option(help="the scheduler's number of this job")],
    restarts: Annotated[int, typer.Option(help="how often it was started again")] = 0,
) -> None:
    """For job scripts: say whether the job that just trained is done, starts again, or has failed."""
    decision = requeue.record_and_decide(run, job, restarts)
    print(decision, flush=True)
    raise SystemExit(decision.exit_code)


def _train(
    kind: type[C],
    build: Callable[[C, World, ResumePoint], Stage],
    path: Path,
    overrides: list[str],
    accept_changes: bool,
    pinned: bool,
) -> None:
    """Everything between the command line and the exit code; RUN/exit.json always says how it stands."""
    run, command = _run_folder(path, overrides), _command()
    code: int | None = None
    reason, lock = "running", Lock(run)
    with StopRequest().listening() as stop:
        try:
            _note(lock, code, reason, command)
            config = load_config(kind, path, overrides)
            world = connect(config.device, config.processes)
            if world.device.type == "cpu":
                keep_freed_memory()
            world.on_all(lambda: run.mkdir(parents=True, exist_ok=True))  # one that leaves early would cut off others
            world.on_main(lambda: lock.acquire())
            startup_agreement.one_folder(lock.path, world)
            _note(lock, code, reason, command)
            newest = published.newest(run) if world.is_main else None
            start = ResumePoint(run, world.broadcast(published.clock_of(newest) if newest else 0))
            stage, loop = _prepared(build, config, world, start, lock, accept_changes, pinned)
            world.on_main(lambda: _record(run, config, stage))
            stopped = loop.train(stop)
            disconnect()
            code, reason = EXIT_OK, "complete"
            if stopped:
                kept = "saved" if loop.images_seen else "nothing to save yet"
                code, reason = EXIT_RESUME, f"{stopped} at {loop.images_seen} images, {kept}"
        except BaseException as error:
            code, message = explain(error)
            reason = message or repr(error)
            raise
        finally:
            _note(lock, code, reason, command)
            lock.release()
    if code:
        if world.is_main:
            print(f"stopped: {reason}; go on with: {command}", file=sys.stderr, flush=True)
        raise SystemExit(code)


def _prepared(
    build: Callable[[C, World, ResumePoint], Stage],
    config: C,
    world: World,
    start: ResumePoint,
    lock: Lock,
    accept_changes: bool,
    pinned: bool,
) -> tuple[Stage, Loop]:
    """Stage and loop, at the newest checkpoint that can be used."""
    assert start.run is not None
    run = start.run
    stage = world.on_all(lambda: build(config, world, start))
    startup_agreement.agree(startup_agreement.described(config, stage.input_identity), world)
    if pinned:
        world.on_main(lambda: startup_agreement.pin(run, config, accept_changes))
    try:
        return stage, world.on_all(lambda: Loop(stage, config, run, world, lock, accept_changes))
    except EarlierStage as earlier:  # on all processes
        again = ResumePoint(run, earlier.images_seen)
    return _prepared(build, config, world, again, lock, accept_changes, pinned)


def _run_folder(path: Path, overrides: list[str]) -> Path:
    """The run's folder, known before the config is checked: a start that fails says so there, if it is there."""
    named = [text.partition("=")[2] for text in overrides if text.startswith("run=")]
    try:
        found = named[-1] if named else read_yaml(path).get("run")
    except UserError:
        found = None
    return Path(found) if found and found != "null" else Path("runs") / f"{path.resolve().parent.name}-{path.stem}"


def _command() -> str:
    """What the user typed, as far as a process can know it."""
    start = ["python"] if os.environ.get("WORLD_SIZE", "1") == "1" else ["(the same launcher)"]
    return " ".join([*start, shlex.join(["-m", "trainer", *sys.argv[1:]])])


def _record(run: Path, config: RunConfig, stage: Stage) -> None:
    """RUN/config.yaml with every default filled in, and the frozen encoder, where there is one, beside it."""
    painting = stage.data.painting
    head = "" if painting is None else f"# painting: {painting.source}, sha256 {painting.sha256}\n"
    whole = config.model_copy(update={"data": config.data.model_copy(update={"local": None})})  # other jobs' is another
    publish(run / "config.yaml", (head + to_yaml(whole)).encode())
    if isinstance(stage, GanStage) and stage.frozen_encoder:
        stage.frozen_encoder.save(run)


def _note(lock: Lock, code: int | None, reason: str, command: str) -> None:
    """Into RUN/exit.json, unless another job has the folder; and for a job script, which then has the reason."""
    run, env = lock.path.parent, os.environ
    if env.get("RANK", "0") != "0" or not run.is_dir():
        return
    folders = [requeue.attempt_folder(run, env.get("SLURM_JOB_ID", ""), env.get("SLURM_RESTART_COUNT", "0"))]
    with suppress(UserError, OSError):  # told where it matters, after the config is checked
        lock.acquire()
        folders.append(run)
    for folder in folders:
        try:
            if folder.is_dir():
                write_exit(folder, code, reason, command)
        except OSError as error:  # a full disk: the reason was or will be printed, this file is lost
            print(f"warning: {folder / 'exit.json'} could not be written ({error.strerror})", file=sys.stderr)


if __name__ == "__main__":
    run_app(app)
