"""Each measurement of a run as a record: the numbers with everything that they depend on."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from data_shards.sources.dsprites import index_of

from . import alignment as alignments
from . import control as controls
from . import disentanglement as metrics
from . import encoding
from . import latents as movements
from .disentanglement import Protocol
from .factors import Extractor
from .fid import fid as frechet
from .images import Kind, code_source
from .run import Run

Asked = Literal["posterior", "prior"] | None


def fid(
    run: Run, extractor: Extractor, kinds: list[Kind], samples: int, asked: Asked = None, seed: int = 0
) -> dict[str, Any]:
    """FID and sprite fidelity by kind of images. asked: where codes come from, None is as in training."""
    source = code_source(run, asked)
    settings = {"protocol": "factor-net", "extractor": extractor.sha256, "samples": samples}
    return {**settings, "codes": source, "seed": seed, "kinds": frechet(run, extractor, kinds, samples, source, seed)}


def disentanglement(run: Run, protocol: Protocol, seed: int = 0) -> dict[str, Any]:
    """MIG and FVM of the run's encoder, and which encoder that is."""
    represent = encoding.representation(run, seed, whole_grid=protocol != "short")
    rng = np.random.default_rng(seed)
    fvm = metrics.fvm(represent, metrics.FVM_PROTOCOLS[protocol], rng)
    factors = metrics.random_factors(rng, metrics.MIG_SAMPLES)
    score, information = metrics.mig(represent(index_of(factors)), factors)
    return {
        "encoder": run.encoder,
        "encoder_sha256": run.encoder_sha256,
        "seed": seed,
        "fvm": {"protocol": protocol, **fvm},
        "mig": {"protocol": "dlib", "score": score, "information": information.round(4).tolist()},
    }


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
