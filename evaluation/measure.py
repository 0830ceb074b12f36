"""Each measurement of a run as a record: the numbers with everything that they depend on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from evaluation.disentanglement.predictors import Labelled
from evaluation.disentanglement.scores import Protocol
from evaluation.factors.factor_network import Extractor
from evaluation.fid.compute import Plan
from evaluation.inputs.images import code_source
from evaluation.inputs.run import Run
from evaluation.inputs.target import Asked, EvaluationTarget
from trainer.distributed.world import World

from .disentanglement import alignment as alignments
from .disentanglement import encoding, predictors
from .disentanglement import scores as metrics
from .factors import control as controls
from .factors import latents as movements
from .fid import compute

ALIGNMENT = (*(f"R2 of {name}" for name in alignments.VALUES), *alignments.FACTORS)  # columns
SCORES = ("fvm", "mig", "dci", "sap", "modularity")  # of an encoder


@contextmanager
def fid(subject: EvaluationTarget, plan: Plan, world: World) -> Iterator[dict[str, Any]]:
    """FID and its kin by kind of images. The context is to keep the record in; see compute.fid."""
    facts = {
        "protocol": plan.net.protocol,
        "extractor": plan.net.sha256,
        "reals_resolution": plan.net.at or subject.resolution,
        "samples": plan.samples,
        "codes": plan.codes,
        "seed": plan.seed,
        "seeds": plan.seeds,
        "reference_file": None if plan.reference is None else str(plan.reference),
        "world_size": world.size,
    }
    with compute.fid(subject, plan, world) as kinds:
        features = {"features": kinds.pop("features")} if "features" in kinds else {}
        yield facts | features | {"kinds": kinds}


def disentanglement(run: Run, protocol: Protocol, seed: int = 0) -> dict[str, Any]:
    """SCORES of the run's encoder, and which encoder that is. protocol: of FVM; DCI and SAP are short with it."""
    space = encoding.space_of(run, seed)
    represent = encoding.representation(run, space, whole_grid=protocol != "short")
    rng = np.random.default_rng(seed)

    def some(count: int) -> Labelled:
        factors = metrics.random_factors(rng, count, space.sizes)
        return Labelled(represent(metrics.places(factors, space.sizes)), factors)

    fvm = metrics.fvm(represent, space.sizes, metrics.FVM_PROTOCOLS[protocol], rng)
    data = some(metrics.MIG_SAMPLES)
    score, information = metrics.mig(*data)
    name = "short" if protocol == "short" else "dlib"
    train, test, trees = predictors.PROTOCOLS[name]
    known, asked = some(train), some(test)
    gap, accuracies = predictors.sap(known, asked, seed)
    return {
        "encoder": run.encoder,
        "encoder_sha256": run.encoder_sha256,
        "factors": dict(zip(space.names, space.sizes, strict=True)),
        "seed": seed,
        "fvm": {"protocol": protocol, **fvm},
        "mig": {"protocol": "dlib", "score": score, "information": information.round(4).tolist()},
        "dci": {"protocol": name, **predictors.dci(known, asked, trees, seed)._asdict()},
        "sap": {"protocol": name, "score": gap, "accuracies": accuracies.round(4).tolist()},
        "modularity": {"protocol": "dlib", "score": predictors.modularity(data)},
    }


def disentanglement_rows(record: dict[str, Any]) -> list[list[str]]:
    """(metric, protocol, value) of a record, for a reader. One of an earlier version has fewer metrics."""
    fvm, rows = record["fvm"], list[list[str]]()
    for name in ("train", "eval"):
        if fvm[f"{name}_accuracy"] is not None:
            rows.append([f"FactorVAE metric, {name} accuracy", fvm["protocol"], f"{fvm[f'{name}_accuracy']:.3f}"])
    rows.append(["pruned latents", fvm["protocol"], ", ".join(f"c{j + 1}" for j in fvm["pruned"]) or "none"])
    for name, key in (("MIG", "mig"), ("SAP", "sap"), ("modularity", "modularity")):
        if key in record:
            rows.append([name, record[key]["protocol"], f"{record[key]['score']:.3f}"])
    for part in predictors.Dci._fields if "dci" in record else ():
        rows.append([f"DCI, {part}", record["dci"]["protocol"], f"{record['dci'][part]:.3f}"])
    return rows


def alignment(run: Run, extractor: Extractor, samples: int, seed: int = 0) -> dict[str, Any]:
    """How well the factors of a source image are found in the image generated from its code, by kind of images."""
    found = alignments.alignment(run, extractor, samples, seed)
    return {
        "encoder": run.encoder,
        "encoder_sha256": run.encoder_sha256,
        "extractor": extractor.sha256,
        "samples": samples,
        "seed": seed,
        "kinds": found,
    }


def alignment_row(found: dict[str, Any]) -> list[str]:
    """Under ALIGNMENT, of one kind of images. A record of an earlier version has the accuracy of shape alone."""
    accuracy = found.get("accuracy", {"shape": found["shape"]})
    values = [f"{found[name]:.3f}" for name in alignments.VALUES]
    return values + [f"{accuracy[name]:.1%}" if name in accuracy else "" for name in alignments.FACTORS]


def control(run: Run, extractor: Extractor, asked: Asked = None, seed: int = 0) -> dict[str, Any]:
    """The shares of each factor's variance that c and s control, over a full grid of pairs."""
    source = code_source(run, asked)
    found = controls.control(run, extractor, source, seed)
    return {
        "extractor": extractor.sha256,
        "codes": source,
        "seed": seed,
        "grid": [controls.GRID, controls.GRID],
        "factors": {name: each._asdict() for name, each in found.items()},
    }


def latents(run: Run, extractor: Extractor, seed: int = 0) -> dict[str, Any]:
    """How far each latent moves x, y and scale."""
    return {"extractor": extractor.sha256, "seed": seed, **movements.movement(run, extractor, seed)}
