"""python -m trainer vae | gan CONFIG [key.path=value ...]"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from data_shards.cli import EXIT_OK, EXIT_RESUME, explain
from data_shards.cli import run as run_app
from data_shards.publish import publish

from . import settings, vae_file
from .config import GanConfig, RunConfig, VaeConfig
from .loop import Loop
from .preemption import write_exit
from .stages import GanStage, Stage, VaeStage
from .world import World, connect, disconnect

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train stage 1 (vae) or stage 2 (gan); a run folder with a checkpoint goes on.",
)
Config = Annotated[Path, typer.Argument(help="a YAML file of configs/")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key.path=value, as in batch_size=32")]
Accept = Annotated[bool, typer.Option("--accept-changes", help="go on from a checkpoint of other settings")]
C = TypeVar("C", bound=RunConfig)


@app.command()
def vae(config: Config, overrides: Overrides = None, accept_changes: Accept = False) -> None:
    """Stage 1: a beta-VAE at 64 px."""
    _train(settings.load(VaeConfig, config, overrides or ()), config, VaeStage, accept_changes)


@app.command()
def gan(config: Config, overrides: Overrides = None, accept_changes: Accept = False) -> None:
    """Stage 2: ID-GAN on the code of a trained VAE (vae=RUN)."""
    _train(settings.load(GanConfig, config, overrides or ()), config, GanStage, accept_changes)


def _train(config: C, path: Path, build: Callable[[C, World], Stage], accept_changes: bool) -> None:
    run = config.run or Path("runs") / f"{path.resolve().parent.name}-{path.stem}"
    is_main = os.environ.get("RANK", "0") == "0"
    code, reason, command = EXIT_OK, "complete", _command()
    try:
        world = connect(config.device, config.processes)
        stage = build(config, world)
        loop = Loop(stage, config, run, world, accept_changes)
        if world.is_main:
            _record(run, config, stage)
        stopped = loop.train()
        if stopped:
            code, reason = EXIT_RESUME, f"{stopped} at {loop.images_seen} images, saved"
        disconnect()
    except BaseException as error:
        code, message = explain(error)
        reason = message or repr(error)
        raise
    finally:
        if is_main:
            _leave(run, code, reason, command)
    if code:
        if is_main:
            print(f"stopped: {reason}; go on with: {command}", file=sys.stderr, flush=True)
        raise SystemExit(code)


def _command() -> str:
    """What the user typed, as far as a process can know it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    start = (
        ["python", "-m"] if size == 1 else ["accelerate", "launch", "--multi_gpu", "--num_processes", str(size), "-m"]
    )
    return shlex.join([*start, "trainer", *sys.argv[1:]])


def _record(run: Path, config: RunConfig, stage: Stage) -> None:
    """RUN/config.yaml with every default filled in, and in stage 2 the VAE beside it."""
    run.mkdir(parents=True, exist_ok=True)
    painting = stage.data.painting
    head = "" if painting is None else f"# painting: {painting.source}, sha256 {painting.sha256}\n"
    publish(run / "config.yaml", (head + settings.to_yaml(config)).encode())
    if isinstance(stage, GanStage):
        vae_file.keep(stage.vae, run)


def _leave(run: Path, code: int, reason: str, command: str) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_exit(run, code, reason, command)
    except OSError as error:  # a full disk: the reason was or will be printed, this file is lost
        print(f"warning: {run / 'exit.json'} could not be written ({error.strerror})", file=sys.stderr)


if __name__ == "__main__":
    run_app(app)
