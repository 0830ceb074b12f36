"""Each measurement of a run as a record: the numbers with everything that they depend on."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from data_shards.sources.dsprites import index_of

from .disentanglement import alignment as alignments
from .disentanglement import encoding, predictors
from .disentanglement import scores as metrics
from .disentanglement.predictors import Labelled
from .disentanglement.scores import Protocol
from .factors import control as controls
from .factors import latents as movements
from .factors.network import Extractor
from .fid.compute import fid as frechet
from .images import Kind, code_source
from .run import Run

SCORES = ("fvm", "mig", "dci", "sap", "modularity")  # of an encoder
Asked = Literal["posterior", "prior"] | None


def fid(
    run: Run, extractor: Extractor, kinds: list[Kind], samples: int, asked: Asked = None, seed: int = 0
) -> dict[str, Any]:
    """FID and sprite fidelity by kind of images. asked: where codes come from, None is as in training."""
    source = code_source(run, asked)
    settings = {"protocol": "factor-net", "extractor": extractor.sha256, "samples": samples}
    return {**settings, "codes": source, "seed": seed, "kinds": frechet(run, extractor, kinds, samples, source, seed)}


def disentanglement(run: Run, protocol: Protocol, seed: int = 0) -> dict[str, Any]:
    """SCORES of the run's encoder, and which encoder that is. protocol: of FVM; DCI and SAP are short with it."""
    represent = encoding.representation(run, seed, whole_grid=protocol != "short")
    rng = np.random.default_rng(seed)

    def some(count: int) -> Labelled:
        factors = metrics.random_factors(rng, count)
        return Labelled(represent(index_of(factors)), factors)

    fvm = metrics.fvm(represent, metrics.FVM_PROTOCOLS[protocol], rng)
    data = some(metrics.MIG_SAMPLES)
    score, information = metrics.mig(*data)
    name = "short" if protocol == "short" else "dlib"
    train, test, trees = predictors.PROTOCOLS[name]
    known, asked = some(train), some(test)
    gap, accuracies = predictors.sap(known, asked, seed)
    return {
        "encoder": run.encoder,
        "encoder_sha256": run.encoder_sha256,
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
