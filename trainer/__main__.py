"""python -m trainer COMMAND: vae and gan train; checkpoints, export, generate, explore, push, plan, demo and more

A command imports what it needs when it runs: --help imports no torch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from common import cli
from trainer.apps.commands import generate_command, push_command
from trainer.apps.explore.commands import explore_command
from trainer.experiments.commands import app as experiments_app

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train stage 1 (vae) or stage 2 (gan); a run folder with a checkpoint resumes. List, export, plan runs, "
    "and make images of them.",
)
app.add_typer(experiments_app, name="experiments")
Config = Annotated[
    Path,
    typer.Argument(
        help="a YAML file of settings, or a shipped config's name: dsprites/idgan", parser=cli.shipped_config
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="other values of settings: key.path=value, as in batch_size=32")
]
Accept = Annotated[
    bool, typer.Option("--accept-changes", help="resume from a checkpoint although settings have changed")
]
Pinned = Annotated[bool, typer.Option("--pinned", help="refuse code or settings other than those of the first start")]
FromStep = Annotated[
    str | None,
    typer.Option(help="resume from this checkpoint, by name or images seen, and set the later ones aside by name"),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="print config and phases, check inputs and memory; train and write nothing")
]
DemoName = Literal["sprites", "faces", "growth"]
RunFolder = Annotated[Path, typer.Argument(help="a run folder", metavar="RUN", parser=cli.path)]


@app.command()
def vae(
    config: Config,
    overrides: Overrides = None,
    accept_changes: Accept = False,
    pinned: Pinned = False,
    from_step: FromStep = None,
    dry_run: DryRun = False,
) -> None:
    """Stage 1: VAE, beta-VAE or FactorVAE at 64 px."""
    _train("vae", config, overrides or [], accept_changes, pinned, from_step, dry_run)


@app.command()
def gan(
    config: Config,
    overrides: Overrides = None,
    accept_changes: Accept = False,
    pinned: Pinned = False,
    from_step: FromStep = None,
    dry_run: DryRun = False,
) -> None:
    """Stage 2: GAN, InfoGAN, cGAN or ID-GAN; the last two on the code of a trained VAE (vae=RUN)."""
    _train("gan", config, overrides or [], accept_changes, pinned, from_step, dry_run)


@app.command()
def checkpoints(run: RunFolder) -> None:
    """List a run's checkpoints, and read every tensor of them."""
    from .checkpoints.listing import print_checkpoints

    print_checkpoints(run)


@app.command()
def export(
    run: Annotated[
        Path,
        typer.Argument(help="a run folder, or with --onnx an export", metavar="RUN", parser=cli.shipped_path),
    ],
    out: Annotated[Path, typer.Argument(help="the new folder", metavar="OUT", parser=cli.path)],
    step: Annotated[
        str | None, typer.Option(help="a checkpoint, by name, by images seen, or `best` [default: the newest]")
    ] = None,
    ema: Annotated[
        str | None,
        typer.Option(
            help="an average of the config, or a file of `evaluation ema` [default: the config's first average]",
            parser=cli.name_or_path,
        ),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="also write ONNX files, which run without torch, and compare them with torch")
    ] = False,
    discriminator: Annotated[
        bool, typer.Option("--discriminator", help="D too, which a run that starts from the export (init_from) takes")
    ] = False,
) -> None:
    """Write generator, encoder and codes as safetensors and JSON, for `trainer.load`."""
    from .export.write import export as write_export

    written = write_export(run, out, step, ema, onnx, discriminator)
    print(f"wrote {out}: {written.resolution} px, {written.origin['step']}; open it with trainer.load({str(out)!r})")
    if onnx:
        from .export.onnx_files import summary

        print(summary(written.origin["onnx"]))


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="model.pt, or chkpts/last of stage 1", metavar="FILE", parser=cli.path)],
    config: Annotated[
        Path, typer.Option("--as", help="the config that it was trained with: celeba/256", parser=cli.shipped_config)
    ],
    overrides: Overrides = None,
    vae: Annotated[
        Path | None, typer.Option(help="of a model.pt: chkpts/last of its stage 1 [default: none]", parser=cli.path)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="the set that it was trained on, for codes of its images [default: none]", parser=cli.path),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="the new folder", show_default="exports/NAME, from the config's path", parser=cli.path),
    ] = None,
) -> None:
    """Write weights of the authors' public code (github.com/1Konny/idgan) as an export."""
    from .public_code.convert import Request, default_folder, import_weights

    folder = out or default_folder(config)
    written = import_weights(Request(file, config, overrides or [], vae, data, folder))
    iterations = f"{written.origin['iteration']:,} iterations"
    print(f"wrote {folder}: {written.resolution} px, {iterations}; open it with trainer.load({str(folder)!r})")


app.command("generate")(generate_command)
app.command("explore")(explore_command)
app.command("push")(push_command)


@app.command()
def plan(
    config: Config,
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option(min=1, help="number of machines")] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="processes on each machine")] = 1,
    images_per_second: Annotated[
        float | None, typer.Option(min=1e-9, help="speed of all processes at full resolution, instead of --rates")
    ] = None,
    rates: Annotated[
        Path | None,
        typer.Option(help="file with the measured speed of one process", show_default="2 CPU cores", parser=cli.path),
    ] = None,
) -> None:
    """Estimate what stage 2 will take: memory, FLOPs, traffic, days, checkpoints. Reads no data, trains nothing."""
    from .plan_table import print_plan

    print_plan(config, overrides or [], nodes, gpus_per_node, images_per_second, rates)


@app.command("shipped")
def shipped_command(
    name: Annotated[
        str | None, typer.Argument(help="a file or folder of it [default: list all]", metavar="NAME")
    ] = None,
) -> None:
    """List configs, models and job scripts that come with the program, or print where one of them is."""
    from .shipped_files import print_shipped

    print_shipped(name)


@app.command("demo")
def demo_command(
    name: Annotated[DemoName, typer.Argument(help="what it trains", metavar="NAME")] = "sprites",
    vae: Annotated[
        Literal["shipped", "own"], typer.Option(help="train on a shipped encoder, or on one that it trains itself")
    ] = "shipped",
    minutes: Annotated[
        float, typer.Option(min=0, help="that it may take; the training is as long as that allows")
    ] = 9.5,
    started: Annotated[
        float | None, typer.Option(help="when the minutes began, in seconds since 1970", show_default="now")
    ] = None,
) -> None:
    """Show what the shipped models do, train a GAN from its first image, and put both on one page."""
    from .demo.run import run as run_demo

    page = run_demo(name, vae == "own", minutes, time.time() if started is None else started)
    print(f"open {page}")


@app.command()
def settle(
    run: RunFolder,
    job: Annotated[str, typer.Option(help="the scheduler's number of this job")],
    restarts: Annotated[int, typer.Option(help="how often it was started again")] = 0,
) -> None:
    """For job scripts: say whether the job that just trained is done, starts again, or has failed.

    Exits with 100 for a job that starts again, else with the exit code of the job.
    """
    from .jobs.requeue import record_and_decide

    decision = record_and_decide(run, job, restarts)
    print(decision, flush=True)
    raise SystemExit(decision.exit_code)


def _train(
    stage: Literal["vae", "gan"],
    path: Path,
    overrides: list[str],
    accept_changes: bool,
    pinned: bool,
    from_step: str | None,
    dry: bool,
) -> None:
    """Train a stage, or check only that it could start (dry)."""
    from trainer.config.schema import GanConfig, VaeConfig

    from .training_command import TrainingCommand

    kind: type[VaeConfig | GanConfig] = GanConfig if stage == "gan" else VaeConfig
    command = TrainingCommand(kind, path, tuple(overrides), accept_changes, pinned, from_step)
    if dry:
        from .dry_run import dry_run

        dry_run(command)
    else:
        from .run import train

        train(command)


if __name__ == "__main__":
    cli.run(app)
