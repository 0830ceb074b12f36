"""Several runs measured alike. What a run's records hold already is not measured again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import UserError, joined
from evaluation import measure, measured_once
from evaluation.disentanglement import encoding
from evaluation.factors.choose import extractor_of
from evaluation.factors.extractor import Extractor
from evaluation.fid.extractors import DrawnImages, FeatureNet, load, refuse_unknown, shipped
from evaluation.fid.plan import FidPlan
from evaluation.inputs.choices import Codes, FidProtocol, FvmProtocolName, Kind, RequestedCodes
from evaluation.inputs.images import code_source
from evaluation.inputs.results import can_write
from evaluation.inputs.run import Run, open_run
from trainer.config.feature_networks import SHIPPED_NETWORKS, default_protocol


@dataclass(frozen=True)
class ComparisonPlan:
    """How every run is measured.

    extractor: reads the images' factors, None where no shipped network knows them; net: of FID; samples: images behind
    each FID and each alignment; fvm: its protocol, None where the data have no known factors; requested: codes of FID.
    """

    extractor: Extractor | None
    net: FeatureNet
    samples: int
    fvm: FvmProtocolName | None
    seed: int
    requested: RequestedCodes = None

    def codes(self, run: Run) -> Codes:
        """Return where the codes of a run's images come from; a GAN without a code has none whatever is requested."""
        own = code_source(run, None)
        return own if own == "none" else code_source(run, self.requested)


@dataclass(frozen=True)
class Asked:
    """What a user asks of a comparison; None is the default. weights: the file of the Inception network."""

    fvm: FvmProtocolName | None = None
    fid: FidProtocol | None = None
    weights: Path | None = None
    codes: RequestedCodes = None


def plan(run: Run, samples: int, seed: int, asked: Asked) -> ComparisonPlan:
    """Return the plan for runs on a run's data set. Raises a UserError where what is asked does not fit it."""
    data_set = run.data.main.manifest.data_set
    protocol = asked.fid or default_protocol(data_set)
    refuse_unknown(run.path, protocol, data_set, "--fid-protocol")
    images = DrawnImages(run.data.variant)  # what is to be warned of, `extractor_of` says
    net = load(protocol, run.config.inception, asked.weights, run.results, run.device, images)
    extractor = extractor_of(run) if data_set in SHIPPED_NETWORKS else None
    return ComparisonPlan(extractor, net, samples, _fvm(run, asked.fvm, seed), seed, asked.codes)


def _fvm(run: Run, asked: FvmProtocolName | None, seed: int) -> FvmProtocolName | None:
    try:
        encoding.space_of(run, seed)
    except UserError:
        if asked is not None:
            raise
        return None
    return measure.fvm_protocol(run, asked, short=True)


def plan_with_readings(run: Run, samples: int, seed: int) -> ComparisonPlan:
    """Return the plan for runs whose factors a shipped network knows. Raises a UserError where none does."""
    extractor = extractor_of(run)
    return ComparisonPlan(extractor, shipped(extractor), samples, measure.fvm_protocol(run, None, short=True), seed)


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
    disentanglement = _of_encoder(run, plan.fvm, plan.seed, metrics) if plan.fvm else None
    return Measured(run, fid, disentanglement, alignment_of(run, plan))


def _of_encoder(run: Run, protocol: FvmProtocolName, seed: int, metrics: dict[str, dict[str, Any]]) -> dict[str, Any]:
    encoder = run.encoder_sha256 or ""
    found = measured_once.disentanglement(run, protocol, seed, metrics.get(encoder))
    kept = {name: found[name] for name in ("seed", *measure.SCORES, "linear_r2") if name in found}
    metrics[encoder] = {"encoder_sha256": encoder} | kept
    return found


def measure_reals(runs: list[Run], plan: ComparisonPlan) -> Measured:
    """Measure the runs' reals alike: the floor of FID and the ceiling of the rest."""
    run = next((run for run in runs if run.q is not None), runs[0])
    fid = fid_of(run, plan, ("reals",), min(plan.samples, run.data.main.count // 2))
    return Measured(run, fid, None, alignment_of(run, plan) if run.q is not None else None)


def fid_of(run: Run, plan: ComparisonPlan, kinds: tuple[Kind, ...], samples: int) -> dict[str, Any]:
    """Return the FID record of kinds of images of a run, an old one where it fits the plan."""
    return measured_once.fid(run, FidPlan(plan.net, kinds, samples, plan.codes(run), plan.seed))


def alignment_of(run: Run, plan: ComparisonPlan) -> dict[str, Any] | None:
    """Return the alignment record of a run, an old one where it fits the plan; None where nothing reads its factors."""
    if plan.extractor is None:
        return None
    return measured_once.alignment(run, plan.extractor, plan.samples, plan.seed)
