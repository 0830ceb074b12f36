"""Whether a generated image shows the factors of the image whose code it was made from.

A source image with known factors -> q's posterior mean c -> G(s, c) -> the factor network. The paper says without a
number that distillation aligns the code and the image; this is a number for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from common.arrays import Float64, Int64
from common.progress import progress_bar
from common.random_numbers import Purpose, integers
from data_shards.sources.sprites.renderer import COUNT, THETAS, Factors, classes, factors_of
from evaluation.factors.factor_network import FULL_RANGE, Extractor, to_factors
from evaluation.inputs.choices import Kind
from evaluation.inputs.images import BLOCK, nuisance, of_codes, own_kind, signed
from evaluation.inputs.run import Run
from models.factor_net import SYMMETRY

from .encoding import sprites_at

VALUES = ("x", "y", "scale")
FACTORS = ("shape", "scale", "orientation", "x", "y")
SCALE_STEP, PLACE_STEP = 0.1, 1 / 31  # between neighbouring classes


def r_squared(truth: Float64, predicted: Float64) -> float:
    """Return 1 - residual / total sum of squares: 1 is exact, 0 as good as the mean, below 0 worse. Both: [N]."""
    return float(1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def alignment(run: Run, extractor: Extractor, samples: int, seed: int) -> dict[str, Any]:
    """Measure R^2 of x, y and scale and the accuracy of every factor's class, by kind of images.

    The sources are uniform over the factors. Kinds: "reals", the sources themselves, which are the ceiling; the run's
    own images; and "vae", the decodings, where a GAN has a VAE.
    """
    q = run.require_encoder()
    kinds: list[Kind] = ["reals", own_kind(run)]
    if run.generator is not None and run.vae is not None:
        kinds.insert(1, "vae")
    predicted: dict[Kind, list[Factors]] = {kind: [] for kind in kinds}
    index = sources(samples, seed)
    with progress_bar() as bar, torch.no_grad():
        task = bar.add_task("alignment", total=samples)
        for start in range(0, samples, BLOCK):
            block = index[start : start + BLOCK]
            images = sprites_at(run, block, seed)
            c, _ = q(signed(images))
            s = nuisance(run, seed, torch.arange(start, start + len(block)))
            for kind in kinds:
                made = images if kind == "reals" else of_codes(run, kind, c, s)
                predicted[kind].append(to_factors(extractor.extract(made)[1], within=False))
            bar.advance(task, len(block))
    truth = factors_of(classes(index))
    return {kind: score(truth, _concatenated(blocks)) for kind, blocks in predicted.items()}


def _concatenated(blocks: list[Factors]) -> Factors:
    return Factors(*map(np.concatenate, zip(*blocks, strict=True)))


def sources(samples: int, seed: int) -> Int64:
    """Draw dataset indices [samples] of source images, uniform over the grid of factors, a function of (seed, i)."""
    return integers(seed, Purpose.EVAL_FACTORS, torch.arange(samples), (), COUNT).numpy()


def score(truth: Factors, predicted: Factors) -> dict[str, Any]:
    """Return R^2 of x, y and scale, the accuracy of the shape, and `accuracy`, that of the class of every factor."""
    values = {name: r_squared(_double(truth, name), _double(predicted, name)) for name in VALUES}
    accuracy = accuracies(truth, predicted)
    return {**values, "shape": accuracy["shape"], "accuracy": accuracy}


def accuracies(truth: Factors, predicted: Factors) -> dict[str, float]:
    """Return by factor how often the true class, of those that dSprites has, is the nearest to the predicted value.

    Orientations that look the same for the true shape count as equal.
    """
    period = 2 * np.pi / np.array(SYMMETRY)[truth.shape]
    turned = np.abs((predicted.theta - truth.theta + period / 2) % period - period / 2)
    predicted = predicted._replace(**{name: _double(predicted, name).clip(*FULL_RANGE[name]) for name in VALUES})
    correct = {
        "shape": truth.shape == predicted.shape,
        "scale": _distance(truth, predicted, "scale") < SCALE_STEP / 2,
        "orientation": (truth.shape == predicted.shape) & (turned < THETAS[1] / 2),
        "x": _distance(truth, predicted, "x") < PLACE_STEP / 2,
        "y": _distance(truth, predicted, "y") < PLACE_STEP / 2,
    }
    return {name: float(hits.mean()) for name, hits in correct.items()}


def _distance(truth: Factors, predicted: Factors, name: str) -> Float64:
    return np.abs(_double(truth, name) - _double(predicted, name))


def _double(factors: Factors, name: str) -> Float64:
    return np.asarray(getattr(factors, name), np.float64)
