"""The steps of the commands fid and reference, on every process that a launcher started."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from common.errors import UserError
from common.paths import Location
from common.progress import progress_bar
from common.signals import handling
from data_shards.read.loader import CODE_RESOLUTION
from evaluation.fid.extractors import FeatureNet
from evaluation.fid.plan import FidPlan
from evaluation.fid.references import ReferencePlan
from evaluation.fid.table_rows import COLUMNS, reals_of, row
from evaluation.inputs.choices import KINDS, Codes, FidCodes, FidProtocol, Kind
from evaluation.inputs.reals import Reals
from evaluation.inputs.target import CLASS, EvaluationTarget, open_target
from evaluation.records.file_lock import hold_lock
from evaluation.records.printed_output import print_and_record
from trainer.config.feature_networks import default_protocol
from trainer.config.file_names import METADATA, REFERENCE
from trainer.config.sections import DataConfig, InceptionConfig
from trainer.distributed.world import ALONE, World, connect, disconnect
from trainer.labels import label_table
from trainer.memory.allocator import keep_freed_memory
from trainer.stages.data import Only, open_data

from . import measure
from .fid import extractors, partial_sums, references, trajectory

log = logging.getLogger(__name__)
REFERENCE_IMAGES = 50_000  # behind statistics of reals that ship, where the set has as many


@contextmanager
def processes(device: str) -> Iterator[World]:
    """Connect the processes that the launcher started, or this one alone.

    SIGTERM and the like stop them as Ctrl-C does: what was saved stays.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        """Note the signal and stop; see `partial_sums.STOPPED`."""
        partial_sums.STOPPED.set()
        raise KeyboardInterrupt

    with handling(stop):
        try:
            world = connect(device, None)
            if world.device.type == "cpu":
                keep_freed_memory()
            yield world
        finally:
            disconnect()


def open_everywhere(
    path: Path, step: str | None, average: str | None, world: World, data: Location | None, out: Path | None
) -> EvaluationTarget:
    """Open the same checkpoint on every process: `best` or the newest may change in between.

    data: of --data, see `open_target`; out: of --out, see `Results`. Raises a UserError where the results cannot be
    written.
    """
    first = world.on_main(lambda: open_target(path, step, average, world.device, data))
    chosen = first.description["step"] if first and not (path / METADATA).is_file() else None
    name = world.broadcast(chosen)
    opened = world.on_all(lambda: first or open_target(path, name, average, world.device, data))
    target = replace(opened, out=out)
    world.on_main(target.results.refuse_unwritable)
    return target


def targets(target: EvaluationTarget, classes: str | None) -> list[EvaluationTarget]:
    """Read --class: the target itself, one of some classes alone, or for `each` one of every class of every label."""
    if classes is None:
        return [target]
    if target.labels is None or target.of_class is None:
        raise UserError(f"--class: {classes}: {target.path} was trained without labels; leave --class out")
    if classes != "each":
        return [replace(target.of_class(classes), out=target.out)]
    found = []
    for one in target.labels.each():
        text = target.labels.text(one)
        try:
            of_class = replace(target.of_class(text), out=target.out)
        except UserError:
            of_class = None  # the set has no image of it
        if of_class is None or (of_class.reals is not None and of_class.reals.count < 2):
            log.warning("warning: --class: each: %s is left out: the set has fewer than two images of it", text)
        else:
            found.append(of_class)
    if not found:
        raise UserError("--class: each: the set has fewer than two images of every class; measure a larger set")
    return found


def own_reference(target: EvaluationTarget, protocol: FidProtocol | None) -> Path | None:
    """Return the file of statistics that came with an export; None for a run, and where it has none of a protocol.

    It is of all classes.
    """
    path = target.path / REFERENCE
    if target.reals is not None or "class" in target.data or not path.is_file():
        return None
    return path if protocol in (None, references.read(path).identity["protocol"]) else None


def network(
    target: EvaluationTarget, protocol: FidProtocol | None, weights: Path | None, reference: Path | None, world: World
) -> FeatureNet:
    """Load the network of a protocol: the given one, else that of the reference file, else the data's default."""
    known = None if reference is None else references.read(reference).identity
    if protocol is None and known is not None:
        protocol = known["protocol"]
    chosen = protocol or default_protocol(target.data.get("data_set", "dsprites"))
    extractor = None if known is None else known["extractor"]
    images = extractors.DrawnImages(target.data.get("variant", "plain"), known=extractor)
    if target.reals is not None and world.is_main:  # one process warns of what they show
        images = extractors.drawn_images(target.reals.data, extractor)
    return extractors.load(chosen, target.inception, weights, target.results, world.device, images)


def code_sources(target: EvaluationTarget, requested: FidCodes) -> list[Codes]:
    """Return where codes come from, in the order of measuring.

    Of both, the run's own is last: `best` is chosen by the newest record.
    """
    if requested != "both":
        return [target.source(requested)]
    own = target.source(None)
    return sorted((target.source("posterior"), target.source("prior")), key=lambda source: source == own)


def requested_kinds(target: EvaluationTarget, text: str) -> tuple[Kind, ...]:
    """Read --of: kinds of images in the order of KINDS; the target's own where the text is empty."""
    names = [name.strip() for name in text.split(",") if name.strip()] if text else [target.kinds[0]]
    wrong = [name for name in names if name not in KINDS]
    if wrong or not names:
        raise UserError(f"--of: {text!r}: unknown {', '.join(wrong) or 'value'}; choose from {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in names)


def measure_all(target: EvaluationTarget, plans: Sequence[FidPlan], world: World) -> None:
    """Measure, keep and print each plan; what a stopped job goes on from is there until all are."""
    with ExitStack() as measured:
        for plan in plans:
            results = measured.enter_context(measure.fid(target, plan, world))
            if world.is_main:
                keep_and_print(target, plan, target.description | results)


def keep_and_print(target: EvaluationTarget, plan: FidPlan, record: dict[str, Any]) -> None:
    """Keep a record with the results, update the trajectory and `best`, and print the record.

    That of a class has another name and changes neither.
    """
    kinds, net = record["kinds"], plan.net
    rows = [[kind, *row(kinds[kind])] for kind in KINDS if kind in kinds]
    seeds = f", mean of {plan.seeds} seeds and its spread" if plan.seeds > 1 else ""
    title = f"against {reals_of(kinds)} ({net.protocol} {net.sha256[:12]}, codes: {plan.codes}{seeds})"
    with hold_lock(target.results.folder / "lock", ALONE, "a record of this run"):
        extractors.record(target.results, net)
        if "class" in target.data:
            record, title = record | {"class": target.data["class"]}, f"{target.data['class']}, {title}"
            print_and_record(target.results, "fid-of-class", record, title, ("images", *COLUMNS), rows)
            return
        kept = print_and_record(target.results, "fid", record, title, ("images", *COLUMNS), rows)
        trajectory.add(target.results, kept)


def open_reals(config: DataConfig, seed: int, classes: str | None = None) -> Reals:
    """Open the real images of a folder of shards. classes: those of some classes alone, such as shape=heart."""
    data = open_data(config, seed)
    if classes is not None:
        data = replace(data, only=Only(*label_table.read_classes(data.main, classes, CLASS, config.path)))
    return Reals(config.path, data, {})


def network_of_reals(reals: Reals, protocol: FidProtocol | None, weights: Path | None, world: World) -> FeatureNet:
    """Load the network of a protocol for a data set. Raises a UserError where a shipped one does not know it."""
    data_set = reals.data.main.manifest.data_set
    chosen = protocol or default_protocol(data_set)
    extractors.refuse_unknown(reals.path, chosen, data_set)
    images = extractors.DrawnImages(reals.data.variant)
    if world.is_main:  # one process warns of what they show
        images = extractors.drawn_images(reals.data)
    return extractors.load(chosen, InceptionConfig(), weights, None, world.device, images)


def make_reference(
    reals: Reals,
    net: FeatureNet,
    resolution: int | None,
    samples: int,
    seed: int,
    out: Path | None,
    world: World,
) -> tuple[Path, dict[str, Any]]:
    """Make the statistics of the first `samples` reals, or find them made. Returns their file and their identity.

    Sharpness is measured at the resolution of the reals and, where the set has that level, at the 64 px of a VAE.
    """
    levels = reals.data.main.manifest.resolutions
    size = resolution or max(levels)
    sharpness_at = [px for px in sorted({size, *levels}) if px == max(size, CODE_RESOLUTION) or px == CODE_RESOLUTION]
    identity = references.identity_of(reals.identity(), net, size, min(samples, reals.count), seed)
    references.warn_of_few(identity["count"], net)
    if out is None and not isinstance(reals.path, Path):
        raise UserError(f"{reals.path}: the statistics are a file on a disk; name a folder for it with --out")
    folder = out or Path(reals.path) / references.FOLDER
    path = folder / references.path_of(identity, reals, folder).name
    with progress_bar(world.is_main) as bar:
        task = bar.add_task("reference", total=identity["count"])
        plan = ReferencePlan(reals, net, identity, sharpness_at, path, folder, folder / "partial")
        references.make(plan, world, lambda n: bar.advance(task, n))
    return path, identity
