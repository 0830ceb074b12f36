"""Whether a generated image shows the factors of the image whose code it was made from.

A source image with known factors -> q's posterior mean c -> G(s, c) -> the factor network. The paper says in words that
distillation aligns the code and the picture; this is a number for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_shards.cli import progress_bar
from data_shards.noise import Purpose, integers
from data_shards.sources.dsprites import COUNT, Factors, classes, factors_of

from ..factors.network import Extractor
from ..images import BLOCK, Kind, nuisance, of_codes, own_kind, signed
from ..run import Run
from .encoding import images_at

Float = NDArray[np.float64]
VALUES = ("x", "y", "scale")


def r_squared(truth: Float, found: Float) -> float:
    """1 - residual / total sum of squares: 1 is exact, 0 is as good as the mean, below 0 is worse. Both: [N]."""
    return float(1 - ((truth - found) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def alignment(run: Run, extractor: Extractor, samples: int, seed: int) -> dict[str, Any]:
    """R^2 of x, y and scale and the accuracy of shape, by kind of images: the run's own and the sources themselves.

    The sources are uniform over the factors; "reals" is the ceiling, and "vae" the decoding where a GAN has a VAE.
    """
    q = run.look()
    kinds: list[Kind] = ["reals", own_kind(run)]
    if run.generator is not None and run.vae is not None:
        kinds.insert(1, "vae")
    seen: dict[Kind, list[Tensor]] = {kind: [] for kind in kinds}
    index = sources(samples, seed)
    with progress_bar() as bar, torch.no_grad():
        task = bar.add_task("alignment", total=samples)
        for start in range(0, samples, BLOCK):
            block = index[start : start + BLOCK]
            images = images_at(run, block, seed)
            c, _ = q(signed(images))
            s = nuisance(run, seed, torch.arange(start, start + len(block)))
            for kind in kinds:
                shown = images if kind == "reals" else of_codes(run, kind, c, s)
                prediction = extractor.look(shown)[1]
                seen[kind].append(
                    torch.stack((prediction.x, prediction.y, prediction.scale, prediction.shape.argmax(1).float()), 1)
                )
            bar.advance(task, len(block))
    truth = factors_of(classes(index))
    return {kind: _score(truth, torch.cat(found).double().numpy()) for kind, found in seen.items()}


def sources(samples: int, seed: int) -> NDArray[np.int64]:
    """Dataset indices [samples] of source images, uniform over the grid of factors, a function of (seed, i)."""
    return integers(seed, Purpose.EVAL_FACTORS, torch.arange(samples), (), COUNT).numpy()


def _score(truth: Factors, found: Float) -> dict[str, float]:
    known = (np.asarray(v, np.float64) for v in (truth.x, truth.y, truth.scale))
    values = {name: r_squared(v, found[:, i]) for i, (name, v) in enumerate(zip(VALUES, known, strict=True))}
    return {**values, "shape": float((truth.shape == found[:, 3]).mean())}
