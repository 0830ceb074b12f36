"""Measurements of runs, each made once: what a run's records hold for the same weights and settings is taken."""

from __future__ import annotations

from typing import Any

from evaluation.factors.extractor import Extractor
from evaluation.fid import extractors, trajectory
from evaluation.fid.plan import FidPlan
from evaluation.inputs.choices import FvmProtocolName
from evaluation.inputs.run import Run
from evaluation.inputs.target import of_run
from evaluation.records import measurements, network_files
from trainer.distributed.world import ALONE

from . import measure


def fid(run: Run, plan: FidPlan) -> dict[str, Any]:
    """Return the FID record of kinds of images of a run, with the data's own reals, one seed, on this process."""
    wanted = {"extractor": plan.net.sha256, "samples": plan.samples, "seed": plan.seed, "codes": plan.codes}
    target = of_run(run)
    network_files.refuse_another(run.results, plan.net.protocol, run.path, plan.net.sha256)

    def fits(record: dict[str, Any]) -> bool:
        """True if a record has these numbers, measured in this way."""
        alone = record.get("seeds", 1) == 1 and record.get("reference_file") is None
        return wanted.items() <= record.items() and set(plan.kinds) <= record["kinds"].keys() and alone

    def measured() -> dict[str, Any]:
        """Measure them."""
        with measure.fid(target, plan, ALONE) as result:
            return result

    record = measurements.once(run.results, "fid", run.describe(), fits, measured)
    extractors.record(run.results, plan.net)
    trajectory.write(run.results)
    return record


def disentanglement(
    run: Run, protocol: FvmProtocolName, seed: int, known: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the record of the encoder's metrics. known: them, where another run has the same encoder."""
    return measurements.once(
        run.results,
        "disentanglement",
        run.describe(),
        lambda r: r["seed"] == seed and r["fvm"]["protocol"] == protocol and set(measure.SCORES) <= set(r),
        lambda: known | {"encoder": run.encoder} if known else measure.disentanglement(run, protocol, seed),
    )


def alignment(run: Run, extractor: Extractor, samples: int, seed: int) -> dict[str, Any]:
    """Return the record of how well factors are found in the images."""
    wanted = {"extractor": extractor.sha256, "samples": samples, "seed": seed}
    return measurements.once(
        run.results,
        "alignment",
        run.describe(),
        lambda r: wanted.items() <= r.items(),
        lambda: measure.alignment(run, extractor, samples, seed),
    )
