"""Several runs measured alike. What a run's records hold already is not measured again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import UserError, joined
from evaluation import measure
from evaluation.factors.choose import extractor_of
from evaluation.factors.extractor import Extractor
from evaluation.fid import trajectory
from evaluation.fid.extractors import FeatureNet, shipped
from evaluation.fid.plan import FidPlan
from evaluation.inputs.choices import FvmProtocolName, Kind
from evaluation.inputs.images import code_source
from evaluation.inputs.results import can_write
from evaluation.inputs.run import Run, open_run
from evaluation.inputs.target import of_run
from evaluation.records import measurements
from trainer.distributed.world import ALONE


@dataclass(frozen=True)
class ComparisonPlan:
    """How every run is measured. samples: images behind each FID and each alignment; protocol: of FVM."""

    extractor: Extractor
    net: FeatureNet
    samples: int
    protocol: FvmProtocolName
    seed: int


def plan(run: Run, samples: int, seed: int, protocol: FvmProtocolName | None = None) -> ComparisonPlan:
    """Return the plan for runs on a run's data set. protocol: of FVM, None for a short one."""
    extractor = extractor_of(run)
    fvm = measure.fvm_protocol(run, protocol, short=True)
    return ComparisonPlan(extractor, shipped(extractor), samples, fvm, seed)


@dataclass(frozen=True)
class Measured:
    """A run with its records; disentanglement and alignment are None where the system has no encoder."""

    run: Run
    fid: dict[str, Any]
    disentanglement: dict[str, Any] | None
    alignment: dict[str, Any] | None


def open_all(paths: list[Path], data_path: Path | None, out: Path) -> list[Run]:
    """Open the runs. data_path: of the set of all of them, None for that of their configs.

    out: folder of the page, which takes the results of runs that cannot be written.

    Raises one UserError that lists everything that keeps them from being compared.
    """
    problems, runs = [], []
    for path in paths:
        try:
            run = open_run(path, data_path=data_path)
            runs.append(run if can_write(run.results.folder) else replace(run, out=_results_folder(out, path)))
        except UserError as error:
            problems.append(str(error))
    for run in runs[1:]:
        first = runs[0]
        if (run.data.identity, run.config.data.variant) != (first.data.identity, first.config.data.variant):
            problems.append(f"{run.path}: is of another data set or data.variant than {first.path}; leave one out")
    if len({path.resolve() for path in paths}) < len(paths):
        problems.append("a run is named twice; name each once")
    if problems:
        raise joined("these runs cannot be compared", problems)
    return runs


def _results_folder(out: Path, run: Path) -> Path:
    """Return a folder for the results of a run, by its name and where it lies: two runs may have one name."""
    place = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:8]
    return out / "results" / f"{run.resolve().name}-{place}"


def measure_all(runs: list[Run], plan: ComparisonPlan) -> list[Measured]:
    """Measure FID of each run's images and of its untrained generator, its encoder's metrics, code alignment."""
    metrics: dict[str, dict[str, Any]] = {}  # by encoder, each measured once: runs may share a frozen one
    return [_measure(run, plan, metrics) for run in runs]


def _measure(run: Run, plan: ComparisonPlan, metrics: dict[str, dict[str, Any]]) -> Measured:
    kinds: tuple[Kind, ...] = ("vae",) if run.generator is None else ("gan", "untrained")
    fid = fid_of(run, plan, kinds, plan.samples)
    if run.q is None:
        return Measured(run, fid, None, None)
    encoder = run.encoder_sha256 or ""
    known = metrics.get(encoder)
    disentanglement = _once(
        run,
        "disentanglement",
        lambda r: r["seed"] == plan.seed and r["fvm"]["protocol"] == plan.protocol and set(measure.SCORES) <= set(r),
        lambda: known | {"encoder": run.encoder} if known else measure.disentanglement(run, plan.protocol, plan.seed),
    )
    metrics[encoder] = {"encoder_sha256": encoder} | {
        n: disentanglement[n] for n in ("seed", *measure.SCORES, "linear_r2") if n in disentanglement
    }
    return Measured(run, fid, disentanglement, alignment_of(run, plan))


def measure_reals(runs: list[Run], plan: ComparisonPlan) -> Measured:
    """Measure the runs' reals alike: the floor of FID and the ceiling of the rest."""
    run = next((run for run in runs if run.q is not None), runs[0])
    fid = fid_of(run, plan, ("reals",), min(plan.samples, run.data.main.count // 2))
    return Measured(run, fid, None, alignment_of(run, plan) if run.q is not None else None)


def fid_of(run: Run, plan: ComparisonPlan, kinds: tuple[Kind, ...], samples: int) -> dict[str, Any]:
    """Return the FID record of kinds of images of a run, an old one where it fits the plan."""
    codes = code_source(run, None)
    wanted = {"extractor": plan.extractor.sha256, "samples": samples, "seed": plan.seed, "codes": codes}
    fid_plan = FidPlan(plan.net, kinds, samples, codes, plan.seed)
    target = of_run(run)

    def fits(record: dict[str, Any]) -> bool:
        """True if a record has these numbers, measured in this way."""
        alone = record.get("seeds", 1) == 1 and record.get("reference_file") is None
        return wanted.items() <= record.items() and set(kinds) <= record["kinds"].keys() and alone

    def measured() -> dict[str, Any]:
        """Measure them."""
        with measure.fid(target, fid_plan, ALONE) as result:
            return result

    record = _once(run, "fid", fits, measured)
    trajectory.write(run.results)
    return record


def alignment_of(run: Run, plan: ComparisonPlan) -> dict[str, Any]:
    """Return the alignment record of a run, an old one where it fits the plan."""
    wanted = {"extractor": plan.extractor.sha256, "samples": plan.samples, "seed": plan.seed}
    return _once(
        run,
        "alignment",
        lambda r: wanted.items() <= r.items(),
        lambda: measure.alignment(run, plan.extractor, plan.samples, plan.seed),
    )


def _once(
    run: Run, command: str, fits: Callable[[dict[str, Any]], bool], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    return measurements.once(run.results, command, run.describe(), fits, make)
