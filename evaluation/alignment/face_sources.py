"""Alignment on drawn faces: sources are the images of the run's own set, in the evaluation's order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from evaluation.disentanglement.linear_r2 import r_squared
from evaluation.factors.face_network import FaceExtractor, targets_of
from evaluation.inputs.run import Run

from .sources import Readings


class FaceSources:
    """Faces of the run's set. A set of fewer than `samples` is gone through again, with other nuisance vectors."""

    def __init__(self, run: Run, extractor: FaceExtractor, samples: int, seed: int) -> None:
        self.run, self.extractor, self.seed = run, extractor, seed
        level = run.data.main
        if level.factors is None or level.factor_values is None:
            raise UserError(f"{run.config.data.path}: its index has no factors; make the set again with `make faces`")
        rows = run.data.mixed(seed, torch.arange(samples)).numpy()
        self.truth = targets_of(level.manifest.factors, level.factors[rows], level.factor_values[rows])

    def images(self, positions: Tensor) -> Tensor:
        """Return the images at positions int64 [b]: uint8 [b, 3, 64, 64]."""
        return self.run.reals.at(self.seed, positions)

    def label_rows(self, positions: Tensor) -> Tensor | None:
        """Return the labels of those images, int64 [b, L], where the run has labels."""
        labels = self.run.labels
        return None if labels is None else labels.rows[self.run.data.mixed(self.seed, positions)]

    def read(self, images: Tensor) -> Readings:
        """Read the factors of images uint8 [b, 3, R, R]."""
        return {name: values.double().numpy() for name, values in self.extractor.readings(images).items()}

    def score(self, predicted: Readings) -> dict[str, Any]:
        """Return `r2` of every value (of a hue: the mean over cosine and sine), and `accuracy` of every part."""
        scores: dict[str, dict[str, float]] = {"r2": {}, "accuracy": {}}
        for head in self.extractor.heads:
            truth, seen = self.truth[head.name].double().numpy(), predicted[head.name]
            if head.kind == "class":
                scores["accuracy"][head.name] = float((seen.argmax(1) == truth).mean())
            else:
                columns = zip(truth.reshape(len(truth), -1).T, seen.T, strict=True)
                scores["r2"][head.name] = float(np.mean([r_squared(*pair) for pair in columns]))
        return scores
