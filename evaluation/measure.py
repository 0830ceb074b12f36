"""Each measurement of a run as a record: the numbers with everything that they depend on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from evaluation.disentanglement.dci import Dci
from evaluation.factors.extractor import Extractor
from evaluation.fid.plan import FidPlan
from evaluation.inputs.choices import FvmProtocolName, RequestedCodes
from evaluation.inputs.images import code_source
from evaluation.inputs.run import Run
from evaluation.inputs.target import EvaluationTarget
from evaluation.records import measurements
from trainer.distributed.world import World

from .alignment import found_factors, sprite_sources
from .alignment import information as informations
from .disentanglement import (
    dci,
    encoding,
    factor_vae,
    labelled_codes,
    linear_r2,
    mig,
    modularity,
    sap,
)
from .factors import control as controls
from .factors import latents as movements
from .fid import compute

BY_TREES = "boosted trees"  # what R^2 of q's means is by; in records of `control` without it a linear regression
SCORES = ("fvm", "mig", "dci", "sap", "modularity")  # of an encoder
WITH_INFORMATION = ("alignment", "paper")  # commands whose records have R in nats


@contextmanager
def fid(target: EvaluationTarget, plan: FidPlan, world: World) -> Iterator[dict[str, Any]]:
    """Yield the record of FID and its companions by kind of images. Keep it within the context; see `compute.fid`."""
    settings = {
        "protocol": plan.net.protocol,
        "extractor": plan.net.sha256,
        "reals_resolution": plan.net.at or target.resolution,
        "samples": plan.samples,
        "codes": plan.codes,
        "seed": plan.seed,
        "seeds": plan.seeds,
        "reference_file": None if plan.reference is None else str(plan.reference),
        "world_size": world.size,
    }
    with compute.fid(target, plan, world) as kinds:
        features = {"features": kinds.pop("features")} if "features" in kinds else {}
        yield settings | features | {"kinds": kinds}


def fvm_protocol(run: Run, requested: FvmProtocolName | None, short: bool) -> FvmProtocolName:
    """Return the protocol of FVM for a run's data: the requested one, else the full or the short one.

    Raises UserError where the requested one is for other data sets.
    """
    continuous = any(factor.range is not None for factor in run.data.main.manifest.factors)
    return factor_vae.protocol_for(continuous, requested, short)


def disentanglement(run: Run, protocol: FvmProtocolName, seed: int = 0) -> dict[str, Any]:
    """Measure SCORES of the run's encoder, and say which encoder that is.

    protocol: of FVM, see `fvm_protocol`; with a short one DCI and SAP are short too.
    """
    space = encoding.space_of(run, seed)
    short = protocol in factor_vae.SHORT
    represent = encoding.representation(run, space, whole_grid=not short and not space.continuous)
    rng = np.random.default_rng(seed)
    fvm = factor_vae.fvm(represent, space.sizes, factor_vae.FVM_PROTOCOLS[protocol], rng)
    data = labelled_codes.draw(represent, space.sizes, mig.MIG_SAMPLES, rng)
    score, information = mig.mig(*data)
    name, family = "short" if short else "dlib", "faces" if space.continuous else "dlib"
    train_count, test_count, trees = labelled_codes.PREDICTOR_PROTOCOLS[name]
    train = labelled_codes.draw(represent, space.sizes, train_count, rng)
    test = labelled_codes.draw(represent, space.sizes, test_count, rng)
    gap, accuracies = sap.sap(train, test, seed)
    return {
        "encoder": run.encoder,
        "encoder_sha256": run.encoder_sha256,
        "factors": dict(zip(space.names, space.sizes, strict=True)),
        "seed": seed,
        "fvm": {"protocol": protocol, **fvm},
        "mig": {"protocol": family, "score": score, "information": information.round(4).tolist()},
        "dci": {"protocol": protocol if space.continuous else name, **dci.dci(train, test, trees, seed)._asdict()},
        "sap": {
            "protocol": protocol if space.continuous else name,
            "score": gap,
            "accuracies": accuracies.round(4).tolist(),
        },
        "modularity": {"protocol": family, "score": modularity.modularity(data)},
        "linear_r2": {
            "protocol": protocol if space.continuous else name,
            "factors": dict(zip(space.names, linear_r2.linear_r2(train, test, space.sizes, space.kinds), strict=True)),
        },
    }


def disentanglement_rows(record: dict[str, Any]) -> list[list[str]]:
    """Format a record as rows (metric, protocol, value). Records of earlier versions have fewer metrics."""
    fvm, rows = record["fvm"], list[list[str]]()
    for name in ("train", "eval"):
        accuracy = fvm[f"{name}_accuracy"]
        if accuracy is not None:
            rows.append([f"FactorVAE metric, {name} accuracy", fvm["protocol"], f"{accuracy:.3f}"])
    rows.append(["pruned latents", fvm["protocol"], ", ".join(f"c{j + 1}" for j in fvm["pruned"]) or "none"])
    for name, key in (("MIG", "mig"), ("SAP", "sap"), ("modularity", "modularity")):
        if key in record:
            rows.append([name, record[key]["protocol"], f"{record[key]['score']:.3f}"])
    for part in Dci._fields if "dci" in record else ():
        rows.append([f"DCI, {part}", record["dci"]["protocol"], f"{record['dci'][part]:.3f}"])
    r2 = record.get("linear_r2", {"factors": {}})
    rows += [[f"linear R2 of {name}", r2["protocol"], f"{v:.3f}"] for name, v in r2["factors"].items() if v is not None]
    return rows


def alignment(run: Run, extractor: Extractor, samples: int, seed: int = 0) -> dict[str, Any]:
    """Measure how well the factors of a source image are seen in the image made from its code, by kind of images."""
    kinds = found_factors.alignment(run, extractor, samples, seed)
    return {
        "encoder": run.encoder,
        "encoder_sha256": run.encoder_sha256,
        "extractor": extractor.sha256,
        "samples": samples,
        "seed": seed,
        "kinds": kinds,
    }


def information(run: Run, samples: int, seed: int = 0) -> dict[str, Any]:
    """Measure how much the images tell of their codes, in nats, with codes drawn as in training.

    samples: codes; at most one for every image of the set is drawn. The entropy of the codes is estimated once for a
    run, encoder, data, seed and number of codes: an earlier record of WITH_INFORMATION has it.
    """
    source, samples = code_source(run, None), min(samples, run.reals.count)
    described = run.describe()
    wanted = {"encoder_sha256": run.encoder_sha256, "seed": seed} | {n: described[n] for n in ("data", "variant")}
    records = [record for command in WITH_INFORMATION for record in measurements.every(run.results, command)]
    found = [r["information"] for r in records if wanted.items() <= r.items() and r.get("information")]
    known = [f["entropy"] for f in found if (f["codes"], f["samples"]) == (source, samples)]
    return informations.information(run, samples, seed, source, known[-1] if known else None)


def information_text(record: dict[str, Any]) -> str:
    """Say what an alignment record has on what the images tell of their codes; "" where an older one has nothing."""
    if "information" not in record:
        return ""
    found = record["information"]
    name = "R_Info" if found["codes"] == "prior" else "R_ID"
    r = ", ".join(f"{kind} {each['nats']:.2f} ± {each['error']:.2f}" for kind, each in found["kinds"].items())
    return f"{name} in nats (codes: {found['codes']}): {r}"


def alignment_columns(record: dict[str, Any]) -> list[str]:
    """Return the titles of a record's columns: R^2 of values, accuracies of classes, faithful sprites by shape."""
    scores = next(iter(record["kinds"].values()))
    faithful = [f"faithful {shape}s" for shape in scores.get("faithful", {})]
    return [*(f"R2 of {name}" for name in r2_of(scores)), *accuracy_of(scores), *faithful]


def alignment_row(scores: dict[str, Any]) -> list[str]:
    """Format the scores of one kind of images as cells under `alignment_columns`."""
    shares = [*accuracy_of(scores).values(), *scores.get("faithful", {}).values()]
    return [f"{value:.3f}" for value in r2_of(scores).values()] + [f"{share:.1%}" for share in shares]


def r2_of(scores: dict[str, Any]) -> dict[str, float]:
    """Return R^2 by factor. Records of sprites have it beside their accuracies."""
    r2: dict[str, float] = scores["r2"] if "r2" in scores else {name: scores[name] for name in sprite_sources.VALUES}
    return r2


def accuracy_of(scores: dict[str, Any]) -> dict[str, float]:
    """Return accuracies by factor. Records of earlier versions have only that of the shape."""
    accuracy: dict[str, float] = scores.get("accuracy") or {"shape": scores["shape"]}
    return accuracy


def control(run: Run, extractor: Extractor, requested: RequestedCodes = None, seed: int = 0) -> dict[str, Any]:
    """Measure the shares of each factor's variance that c and s control, over a full grid of pairs."""
    source = code_source(run, requested)
    shares = controls.control(run, extractor, source, seed)
    return {
        "extractor": extractor.sha256,
        "codes": source,
        "seed": seed,
        "grid": [controls.GRID, controls.GRID],
        "collapsed": [f"c{latent + 1}" for latent in controls.collapsed(run, seed)],
        "means_r2": movements.means_r2(run, extractor, seed),
        "means_r2_by": BY_TREES,
        "units": {name: extractor.units(name) for name in shares},
        "factors": {name: each._asdict() for name, each in shares.items()},
    }


def latents(run: Run, extractor: Extractor, seed: int = 0) -> dict[str, Any]:
    """Measure how far each latent moves each factor, and what all of them hold of it."""
    record = {"extractor": extractor.sha256, "seed": seed, **movements.movement(run, extractor, seed)}
    held = movements.means_r2(run, extractor, seed)
    return record | ({"means_r2": held, "means_r2_by": BY_TREES} if held else {})
