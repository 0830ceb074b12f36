"""The network that reads the factors of a drawn face: the feature extractor of `face-net` FID."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = 256
DAMAGE = "damage"  # name of the prediction that says how damaged an image is


class Head(NamedTuple):
    """A factor that the network predicts. size: number of classes of a discrete one."""

    name: str
    kind: Literal["class", "linear", "circular"]
    size: int = 1

    @property
    def outputs(self) -> int:
        """Numbers that the network gives for it: logits; the share of its range; cosine and sine of its angle."""
        return {"class": self.size, "linear": 1, "circular": 2}[self.kind]


class FaceNet(nn.Module):
    """Predicts the factors of a face, and how damaged its image is."""

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.heads = tuple(heads)
        self.trunk = nn.Sequential(
            *_layer(3, 32, 4, 2),  # 32 px
            *_layer(32, 64, 4, 2),  # 16 px
            *_layer(64, 64, 3, 1),
            *_layer(64, 128, 4, 2),  # 8 px
            *_layer(128, 128, 3, 1),
            *_layer(128, 160, 4, 2),  # 4 px
            nn.Flatten(),
            nn.Linear(160 * 16, 320),
            nn.ReLU(),
        )
        self.feature = nn.Linear(320, FEATURES)
        self.head = nn.Linear(FEATURES, sum(head.outputs for head in heads) + 1)

    def features(self, x: Tensor) -> Tensor:
        """Return the penultimate layer: [B, 256], at least 0.

        x: [B, 3, R, R] in [0, 1]; R > 64 is box-pooled to 64 px.
        """
        if x.shape[-1] > 64:
            x = F.avg_pool2d(x, x.shape[-1] // 64)
        return torch.relu(self.feature(self.trunk(x * 2 - 1)))

    def predict(self, features: Tensor) -> dict[str, Tensor]:
        """Return what features [B, 256] show, by the name of the factor.

        Logits [B, size] of a class; the share of its range [B], about 0 to 1; (cos, sin) [B, 2] of a circular one; and
        DAMAGE [B], about 0 (clean) to 1.
        """
        out = self.head(features)
        *parts, damage = out.split([*(head.outputs for head in self.heads), 1], 1)
        named = {
            head.name: part[:, 0] if head.kind == "linear" else part
            for head, part in zip(self.heads, parts, strict=True)
        }
        return named | {DAMAGE: damage[:, 0]}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return what images x show, as `features` takes them."""
        return self.predict(self.features(x))


def _layer(fin: int, fout: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    """A convolution that keeps the size, or halves it, with normalisation and activation."""
    return nn.Conv2d(fin, fout, kernel, stride, 1), nn.GroupNorm(8, fout), nn.ReLU()
