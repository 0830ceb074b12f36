"""The network that predicts the factors of a dSprites image: the feature extractor of `factor-net` FID (appendix C.1).

The paper's "manually trained ConvNet trained to predict true generative factors" was never released; this one is ours.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = 128


class FactorPrediction(NamedTuple):
    """The predicted factors of a batch.

    shape: logits [B, 3]. scale: [B], about 0.5 to 1. x, y: [B], about 0 to 1. angle: [B, 3, 2], for each shape the
    (cos, sin) of its orientation times its SYMMETRY.
    """

    shape: Tensor
    scale: Tensor
    x: Tensor
    y: Tensor
    angle: Tensor


SYMMETRY = (4, 2, 1)  # a square looks the same after a quarter turn, an ellipse after half a turn


class FactorNet(nn.Module):
    """Predicts the factors of an image. One network serves the plain, Color, Noisy and Scream variants."""

    def __init__(self) -> None:
        super().__init__()
        width = 32
        layers: list[nn.Module] = []
        channels = [3, width, 2 * width, 2 * width, 2 * width]
        for fin, fout in pairwise(channels):
            layers += [nn.Conv2d(fin, fout, 4, 2, 1), nn.GroupNorm(8, fout), nn.ReLU()]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * width, 256), nn.ReLU())
        self.feature = nn.Linear(256, FEATURES)
        self.head = nn.Linear(FEATURES, 3 + 3 + 6)

    def features(self, x: Tensor) -> Tensor:
        """Return the penultimate layer: [B, 128], at least 0.

        x: [B, 1 or 3, R, R] in [0, 1]; grey is repeated, R > 64 is box-pooled to 64 px.
        """
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        if x.shape[-1] > 64:
            x = F.avg_pool2d(x, x.shape[-1] // 64)
        return torch.relu(self.feature(self.trunk(x * 2 - 1)))

    def predict(self, features: Tensor) -> FactorPrediction:
        """Return the factors that features [B, 128] show."""
        out = self.head(features)
        return FactorPrediction(out[:, :3], out[:, 3], out[:, 4], out[:, 5], out[:, 6:].reshape(-1, 3, 2))

    def forward(self, x: Tensor) -> FactorPrediction:
        """Return the factors of images x, as `features` takes them."""
        return self.predict(self.features(x))
