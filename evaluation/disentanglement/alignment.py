"""Whether a generated image shows the factors of the image whose code it was made from.

A source image with known factors -> q's posterior mean c -> G(s, c) -> the factor network. The paper says in words that
distillation aligns the code and the picture; this is a number for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.progress import progress_bar
from common.random_numbers import Purpose, integers
from data_shards.sources.sprites.renderer import COUNT, THETAS, Factors, classes, factors_of
from evaluation.factors.factor_network import FULL_RANGE, Extractor, to_factors
from evaluation.inputs.choices import Kind
from evaluation.inputs.images import BLOCK, nuisance, of_codes, own_kind, signed
from evaluation.inputs.run import Run
from models.factor_net import SYMMETRY

from .encoding import sprites_at

Float = NDArray[np.float64]
VALUES = ("x", "y", "scale")
FACTORS = ("shape", "scale", "orientation", "x", "y")
SCALE_STEP, PLACE_STEP = 0.1, 1 / 31  # between neighbouring classes


def r_squared(truth: Float, found: Float) -> float:
    """1 - residual / total sum of squares: 1 is exact, 0 is as good as the mean, below 0 is worse. Both: [N]."""
    return float(1 - ((truth - found) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def alignment(run: Run, extractor: Extractor, samples: int, seed: int) -> dict[str, Any]:
    """R^2 of x, y and scale and the accuracy of every factor's class, by kind of images: the run's own and the sources.

    The sources are uniform over the factors; "reals" is the ceiling, and "vae" the decoding where a GAN has a VAE.
    """
    q = run.look()
    kinds: list[Kind] = ["reals", own_kind(run)]
    if run.generator is not None and run.vae is not None:
        kinds.insert(1, "vae")
    seen: dict[Kind, list[Factors]] = {kind: [] for kind in kinds}
    index = sources(samples, seed)
    with progress_bar() as bar, torch.no_grad():
        task = bar.add_task("alignment", total=samples)
        for start in range(0, samples, BLOCK):
            block = index[start : start + BLOCK]
            images = sprites_at(run, block, seed)
            c, _ = q(signed(images))
            s = nuisance(run, seed, torch.arange(start, start + len(block)))
            for kind in kinds:
                shown = images if kind == "reals" else of_codes(run, kind, c, s)
                seen[kind].append(to_factors(extractor.look(shown)[1], within=False))
            bar.advance(task, len(block))
    truth = factors_of(classes(index))
    whole = {kind: Factors(*map(np.concatenate, zip(*found, strict=True))) for kind, found in seen.items()}
    return {kind: score(truth, found) for kind, found in whole.items()}


def sources(samples: int, seed: int) -> NDArray[np.int64]:
    """Dataset indices [samples] of source images, uniform over the grid of factors, a function of (seed, i)."""
    return integers(seed, Purpose.EVAL_FACTORS, torch.arange(samples), (), COUNT).numpy()


def score(truth: Factors, found: Factors) -> dict[str, Any]:
    """R^2 of x, y and scale, the accuracy of the shape, and `accuracy`, of the class of every factor."""
    values = {name: r_squared(_double(truth, name), _double(found, name)) for name in VALUES}
    accuracy = accuracies(truth, found)
    return {**values, "shape": accuracy["shape"], "accuracy": accuracy}


def accuracies(truth: Factors, found: Factors) -> dict[str, float]:
    """How often the value that is found lies nearest to the true one of those that dSprites has, by factor.

    Orientations that look the same for the true shape are the same.
    """
    period = 2 * np.pi / np.array(SYMMETRY)[truth.shape]
    turned = np.abs((found.theta - truth.theta + period / 2) % period - period / 2)
    found = found._replace(**{name: _double(found, name).clip(*FULL_RANGE[name]) for name in VALUES})
    right = {
        "shape": truth.shape == found.shape,
        "scale": np.abs(_double(truth, "scale") - _double(found, "scale")) < SCALE_STEP / 2,
        "orientation": (truth.shape == found.shape) & (turned < THETAS[1] / 2),
        "x": np.abs(_double(truth, "x") - _double(found, "x")) < PLACE_STEP / 2,
        "y": np.abs(_double(truth, "y") - _double(found, "y")) < PLACE_STEP / 2,
    }
    return {name: float(hits.mean()) for name, hits in right.items()}


def _double(factors: Factors, name: str) -> Float:
    return np.asarray(getattr(factors, name), np.float64)
