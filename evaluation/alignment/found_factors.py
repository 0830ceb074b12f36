"""Whether a generated image shows the factors of the image whose code it was made from.

A source image with known factors -> q's posterior mean c -> G(s, c) -> the extractor. The paper says without a number
that distillation aligns the code and the image; this is a number for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from common.progress import progress_bar
from evaluation.factors.extractor import Extractor
from evaluation.factors.face_network import FaceExtractor
from evaluation.inputs.choices import Kind
from evaluation.inputs.images import BLOCK, nuisance, of_codes, own_kind, signed
from evaluation.inputs.run import Run

from .face_sources import FaceSources
from .sources import Readings, Sources
from .sprite_sources import SpriteSources


def sources_of(run: Run, extractor: Extractor, samples: int, seed: int) -> Sources:
    """Return the sources that fit a run's data set."""
    if isinstance(extractor, FaceExtractor):
        return FaceSources(run, extractor, samples, seed)
    return SpriteSources(run, extractor, samples, seed)


def alignment(run: Run, extractor: Extractor, samples: int, seed: int) -> dict[str, Any]:
    """Measure how well factors are found, by kind of images; see `score` of the sources.

    Kinds: "reals", the sources themselves, which are the ceiling; the run's own images; and "vae", the decodings, where
    a GAN has a VAE.
    """
    q = run.require_encoder()
    kinds: list[Kind] = ["reals", own_kind(run)]
    if run.generator is not None and run.vae is not None:
        kinds.insert(1, "vae")
    sources = sources_of(run, extractor, samples, seed)
    predicted: dict[Kind, list[Readings]] = {kind: [] for kind in kinds}
    with progress_bar() as bar, torch.no_grad():
        task = bar.add_task("alignment", total=samples)
        for positions in torch.arange(samples).split(BLOCK):
            images = sources.images(positions)
            c, _ = q(signed(images))
            s = nuisance(run, seed, positions, rows=sources.label_rows(positions))
            for kind in kinds:
                made = images if kind == "reals" else of_codes(run, kind, c, s)
                predicted[kind].append(sources.read(made))
            bar.advance(task, len(positions))
    return {kind: sources.score(_concatenated(blocks)) for kind, blocks in predicted.items()}


def _concatenated(blocks: list[Readings]) -> Readings:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
