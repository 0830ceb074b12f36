"""Alignment on the dSprites family: sources uniform over the grid of factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.arrays import Bool, Float64, Int64
from common.random_numbers import Purpose, integers
from data_shards.sources.sprites.renderer import COUNT, SHAPES, THETAS, Factors, classes, factors_of
from evaluation.disentanglement.encoding import sprites_at
from evaluation.disentanglement.linear_r2 import r_squared
from evaluation.factors.extractor import Extractor
from evaluation.factors.factor_network import (
    FAITHFUL_IOU,
    FULL_RANGE,
    VARIANTS_WITH_FIDELITY,
    sprite_iou,
    to_factors,
)
from evaluation.inputs.run import Run
from models.factor_net import SYMMETRY

from .sources import Readings

VALUES = ("x", "y", "scale")
FACTORS = ("shape", "scale", "orientation", "x", "y")
SCALE_STEP, PLACE_STEP = 0.1, 1 / 31  # between neighbouring classes


class SpriteSources:
    """Sprites of the run's variant, drawn for the measure."""

    def __init__(self, run: Run, extractor: Extractor, samples: int, seed: int) -> None:
        self.run, self.extractor, self.seed = run, extractor, seed
        self.index = sources(samples, seed)

    def images(self, positions: Tensor) -> Tensor:
        """Return the images at positions int64 [b]: uint8 [b, C, 64, 64]."""
        return sprites_at(self.run, self.index[positions.numpy()], self.seed)

    def label_rows(self, positions: Tensor) -> Tensor | None:
        """Return the labels of those images, int64 [b, L], where the run has labels, which are factors."""
        labels = self.run.labels
        if labels is None:
            return None
        names = [factor.name for factor in self.run.data.main.manifest.factors]
        columns = [names.index(label.name) for label in labels.labels.labels]
        return torch.from_numpy(classes(self.index[positions.numpy()])[:, columns])

    def read(self, images: Tensor) -> Readings:
        """Read the factors of images uint8 [b, C, R, R], and whether each is a faithful sprite."""
        prediction = self.extractor.extract(images)[1]
        readings: Readings = to_factors(prediction, within=False)._asdict()
        if self.run.data.variant in VARIANTS_WITH_FIDELITY:
            readings["faithful"] = sprite_iou(images, prediction) >= FAITHFUL_IOU
        return readings

    def score(self, predicted: Readings) -> dict[str, Any]:
        """Return R^2 of x, y and scale, the accuracy of the shape, and `accuracy`, of the class of every factor.

        Where fidelity is defined, also `faithful`, the share of faithful sprites by the shape of the source, and
        `shapes`, the share of the images that are read as each shape.
        """
        truth, faithful = factors_of(classes(self.index)), predicted.pop("faithful", None)
        found = score(truth, Factors(**predicted))
        return found if faithful is None else found | by_shape(truth.shape, predicted["shape"], faithful)


def sources(samples: int, seed: int) -> Int64:
    """Draw dataset indices [samples] of source images, uniform over the grid of factors, a function of (seed, i)."""
    return integers(seed, Purpose.EVAL_FACTORS, torch.arange(samples), (), COUNT).numpy()


def score(truth: Factors, predicted: Factors) -> dict[str, Any]:
    """Return R^2 of x, y and scale, the accuracy of the shape, and `accuracy`, that of the class of every factor."""
    values = {name: r_squared(_double(truth, name), _double(predicted, name)) for name in VALUES}
    accuracy = accuracies(truth, predicted)
    return {**values, "shape": accuracy["shape"], "accuracy": accuracy}


def by_shape(truth: Int64, predicted: Int64, faithful: Bool) -> dict[str, dict[str, float]]:
    """Return the share of faithful sprites by the shape of the source, and of the images that are read as each shape.

    truth, predicted: shapes of sources and images; faithful: of the images; each [N].
    """
    named = list(enumerate(SHAPES))
    shares = {name: float(faithful[truth == k].mean()) for k, name in named if (truth == k).any()}
    return {"faithful": shares, "shapes": {name: float((predicted == k).mean()) for k, name in named}}


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
