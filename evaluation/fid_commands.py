"""fid, reference, weights."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, get_args

import typer

from common.errors import UserError
from common.progress import progress_bar
from data_shards.read.variant_names import Variant
from evaluation.fid.compute import Plan
from evaluation.fid.table_rows import COLUMNS, row
from evaluation.inputs.choices import KINDS, Codes, FidProtocol, Kind
from evaluation.inputs.options import EmaOption, Seed, Step
from evaluation.inputs.reals import Reals
from evaluation.inputs.target import EvaluationTarget, open_target
from evaluation.records.file_lock import hold_lock
from evaluation.records.printed_output import answer, show
from trainer.config.inception_files import FILES, Inception
from trainer.config.sections import DataConfig, InceptionConfig
from trainer.distributed.world import ALONE, World, connect, disconnect
from trainer.memory.allocator import keep_freed_memory
from trainer.stages.data import open_data

from . import measure
from .fid import extractors, inception, partial_sums, references, trajectory

Subjects = Annotated[Path, typer.Argument(help="a run folder of either stage, or an export", metavar="RUN")]
ProtocolOption = Annotated[
    FidProtocol | None, typer.Option(help="whose features [default: factor-net for dSprites, clean for all else]")
]
Weights = Annotated[
    Path | None, typer.Option(help="file of the Inception network [default: inception.* of the config]")
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="where networks run")]
ReferenceOption = Annotated[Path | None, typer.Option(help="statistics that `reference` made [default: of the data]")]
KeepFeatures = Annotated[bool, typer.Option("--keep-features", help="of all images, in RUN/evaluation/features")]
Release = Annotated[
    bool, typer.Option("--release", help="afterwards the run need not keep --step for it: of jobs that a run submits")
]


def fid_command(
    run: Subjects,
    samples: Annotated[int, typer.Option(help="generated images, and at most as many reals")] = 50_000,
    protocol: ProtocolOption = None,
    of: Annotated[str, typer.Option(help=f"comma-separated: {', '.join(KINDS)} [default: the run's own]")] = "",
    codes: Annotated[
        Literal["posterior", "prior", "both"] | None,
        typer.Option(help="c from the aggregated posterior, from N(0, I), or each in turn [default: as in training]"),
    ] = None,
    ema: EmaOption = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(min=1, help="repeat with so many seeds: mean and spread")] = 1,
    step: Step = None,
    reference: ReferenceOption = None,
    weights: Weights = None,
    keep_images: Annotated[
        Path | None, typer.Option(help="write every image to DIR/KIND-CODES-SEED/000000.png")
    ] = None,
    keep_features: KeepFeatures = False,
    release: Release = False,
    device: Device = "auto",
) -> None:
    """FID, KID, precision, recall, density and coverage; for sprites, fidelity. Goes on where it was stopped."""
    if release and step is None:
        raise UserError("--release: which checkpoint? name it with --step")
    with processes(device) as world, trajectory.told(run, step if release else None, world), ExitStack() as measured:
        target = opened(run, step, ema, world)
        net = world.on_all(lambda: _network(target, protocol, weights, reference, world))
        for source in _sources(target, codes):
            plan = Plan(net, _kinds(target, of), samples, source, seed, seeds, reference, keep_images, keep_features)
            found = measured.enter_context(measure.fid(target, plan, world))
            if world.is_main:
                _conclude(target, plan, target.facts | found)


def opened(path: Path, step: str | None, average: str | None, world: World) -> EvaluationTarget:
    """The same checkpoint on every process: `best` or the newest may change in between."""
    first = world.on_main(lambda: open_target(path, step, average, world.device))
    name = world.broadcast(first.facts["step"] if first else None)
    exported = world.broadcast(first is not None and first.reals is None)
    return world.on_all(lambda: first or open_target(path, None if exported else name, average, world.device))


def _conclude(target: EvaluationTarget, plan: Plan, record: dict[str, Any]) -> None:
    """Keep and print the record."""
    found, net = record["kinds"], plan.net
    rows = [[kind, *row(found[kind])] for kind in KINDS if kind in found]
    seeds = f", mean of {plan.seeds} seeds and its spread" if plan.seeds > 1 else ""
    title = f"against {found['reference_count']:,} reals ({net.protocol} {net.sha256[:12]}, codes: {plan.codes}{seeds})"
    with hold_lock(target.path / "evaluation" / "lock", ALONE, "a record of this run"):
        extractors.record(target.path, net)
        trajectory.add(target.path, answer(target.path, "fid", record, title, ("images", *COLUMNS), rows))


def reference_command(
    data: Annotated[Path, typer.Argument(help="a folder of shards", metavar="DATA")],
    resolution: Annotated[int | None, typer.Option(help="px [default: the largest level]")] = None,
    samples: Annotated[int, typer.Option(min=2, help="reals, at most all")] = 50_000,
    protocol: ProtocolOption = None,
    variant: Annotated[Variant, typer.Option(help="dSprites: how its sprites are drawn")] = "plain",
    painting: Annotated[Path | None, typer.Option(help="scream: an image file")] = None,
    seed: Seed = 0,
    weights: Weights = None,
    out: Annotated[Path | None, typer.Option(help="folder [default: DATA/references]")] = None,
    device: Device = "auto",
) -> None:
    """Statistics of the reals, ahead of time: every `fid` with the same settings takes them from there."""
    with processes(device) as world:
        config = DataConfig(path=data, variant=variant, painting=painting)
        reals = world.on_all(lambda: Reals(data, open_data(config, seed), {}))
        known = protocol or default_protocol(reals.identity())
        if known == "factor-net" and reals.data.main.manifest.data_set != "dsprites":
            raise UserError(f"{data}: the factor network knows the dSprites family only; use --protocol clean")
        net = world.on_all(lambda: extractors.load(known, InceptionConfig(), weights, None, world.device))
        size = resolution or max(reals.data.main.manifest.resolutions)
        facts = references.facts_of(reals.identity(), net, size, min(samples, reals.count), seed)
        references.warn_of_few(facts["count"], net)
        folder = out or data / references.FOLDER
        path = folder / references.path_of(facts, reals, folder).name
        with progress_bar(world.is_main) as bar:
            task = bar.add_task("reference", total=facts["count"])
            references.make(reals, net, facts, path, folder / "partial", world, lambda n: bar.advance(task, n))
        if world.is_main:
            show("reference", ["fact", "value"], [[name, str(value)] for name, value in facts.items()])
            print(json.dumps({"command": "reference", "file": str(path), **facts}))


def weights_command(
    protocol: Annotated[Inception, typer.Argument(help="whose")],
    out: Annotated[Path | None, typer.Option(help="file [default: weights/ and its own name]")] = None,
) -> None:
    """Fetch the weights of a published Inception network, where there is a network."""
    path = out or Path("weights") / FILES[protocol]
    if path.exists():
        raise UserError(f"{path}: is there already; remove it, or name another place with --out")
    digest = inception.fetch(protocol, path)
    print(json.dumps({"command": "weights", "file": str(path), "sha256": digest}))


def default_protocol(data: dict[str, Any]) -> FidProtocol:
    """data: `Reals.identity`."""
    return "factor-net" if data.get("data_set", "dsprites") == "dsprites" else "clean"


def _network(
    target: EvaluationTarget, protocol: FidProtocol | None, weights: Path | None, reference: Path | None, world: World
) -> extractors.FeatureNet:
    of_reference = references.read(reference).facts["protocol"] if reference else None
    known = protocol or of_reference or default_protocol(target.data)
    return extractors.load(known, target.inception, weights, target.path, world.device)


def _sources(target: EvaluationTarget, asked: Literal["posterior", "prior", "both"] | None) -> list[Codes]:
    """Of both the run's own is last: that is what `best` is chosen by."""
    if asked != "both":
        return [target.source(asked)]
    return sorted((target.source("posterior"), target.source("prior")), key=lambda one: one == target.source(None))


def _kinds(target: EvaluationTarget, text: str) -> tuple[Kind, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()] if text else [target.kinds[0]]
    wrong = [name for name in names if name not in get_args(Kind)]
    if wrong or not names:
        raise UserError(f"--of: {text!r}: unknown {', '.join(wrong) or 'value'}; choose from {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in names)


@contextmanager
def processes(device: str) -> Iterator[World]:
    """Those that the launcher started, or this one alone. SIGTERM stops them as Ctrl-C does: what was saved stays."""

    def stop(signum: int, frame: FrameType | None) -> None:
        partial_sums.STOPPED.set()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        world = connect(device, None)
        if world.device.type == "cpu":
            keep_freed_memory()
        yield world
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        disconnect()
