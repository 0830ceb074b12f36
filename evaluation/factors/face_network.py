"""The shipped face network: FID features of drawn faces, and the factors that it reads from them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from common.arrays import Float64, Int64
from data_shards.format.manifest import Factor
from evaluation.inputs.choices import FidProtocol
from models.face_net import FEATURES, FaceNet, Head

from .extractor import Extractor, read_weights, ready

WEIGHTS = Path(__file__).parent / "weights" / "face_net.safetensors"
COMMAND = "python -m evaluation.factors.train_face_net data/faces-50k evaluation/factors/weights/face_net.safetensors"

LOOKS = {  # keys of a recipe: what differs, and what to do
    "definition": "another version of the style, make the set again with the packages of constraints.txt",
    "drawn": "another table of factors, which another version of this program has",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FaceExtractor(Extractor):
    """Reads drawn faces of the style toon-head. heads: the factors that it knows."""

    heads: tuple[Head, ...]
    protocol: ClassVar[FidProtocol] = "face-net"
    dim: ClassVar[int] = FEATURES

    @property
    def movable(self) -> tuple[str, ...]:
        """All factors."""
        return tuple(head.name for head in self.heads)

    def features(self, images: Tensor) -> Tensor:
        """Return features [B, 256] on the CPU. images: uint8 [B, 3, R, R], R >= 64."""
        return self.extract(images)[0]

    def readings(self, images: Tensor, variant: str = "plain") -> dict[str, Tensor]:
        """Return the readings by factor: its probabilities [B, K], its share of the range [B, 1], or (cos, sin).

        images: uint8 [B, 3, R, R].
        """
        prediction = self.extract(images)[1]
        return {head.name: _components(head, prediction[head.name]) for head in self.heads}

    def units(self, factor: str) -> str:
        """Return the range of a reading's components, for a reader."""
        head = next(head for head in self.heads if head.name == factor)
        return {"class": f"{head.size} probabilities", "linear": "0 to 1", "circular": "cos, sin"}[head.kind]

    def shares_of_range(self, images: Tensor) -> list[float]:
        """Return how far each factor moves over the steps of a traversal, mean of bases; 1 is the farthest possible.

        That is a value's whole range, the opposite of a hue, and one certain variant of a part after another one.
        images: uint8 [bases, steps, 3, R, R].
        """
        readings = self.readings(images.flatten(0, 1))
        shape = images.shape[:2]
        return [float(_farthest(head, readings[head.name].unflatten(0, shape)).mean()) for head in self.heads]


def warn_of_version(extractor: Extractor, recipe: Mapping[str, Any] | None) -> None:
    """Warn where faces are drawn by another version of the style, or vary otherwise, than those that it learnt.

    recipe: of the set's manifest; None where the images have none. Faces of another style are another data set.
    """
    if recipe is None or not isinstance(extractor, FaceExtractor):
        return
    learnt = json.loads(WEIGHTS.with_suffix(".json").read_text())["data"]["recipe"]
    differs = [key for key in LOOKS if recipe.get("style") == learnt["style"] and recipe.get(key) != learnt[key]]
    if differs:
        log.warning(
            "warning: these faces are not drawn as those that the face network learnt (%s): FID and readings may say "
            "less of them",
            "; ".join(LOOKS[key] for key in differs),
        )


def _components(head: Head, predicted: Tensor) -> Tensor:
    """A head's output as components [B, K]."""
    if head.kind == "class":
        return predicted.softmax(1)
    if head.kind == "linear":
        return predicted.clamp(0, 1)[:, None]
    return torch.nn.functional.normalize(predicted, dim=1)


def _farthest(head: Head, steps: Tensor) -> Tensor:
    """The largest distance between two steps of each traversal: [bases], in [0, 1]. steps: [bases, steps, K]."""
    pairs = steps[:, :, None] - steps[:, None]
    if head.kind == "circular":  # half the angle between two directions, from their chord
        distances = 2 * (pairs.norm(dim=-1) / 2).clamp(max=1).asin() / math.pi
    elif head.kind == "class":  # total variation
        distances = pairs.abs().sum(-1) / 2
    else:
        distances = pairs.abs()[..., 0]
    return distances.flatten(1).amax(1)


def heads_of(factors: Sequence[Factor]) -> tuple[Head, ...]:
    """Return what a network predicts of factors."""
    return tuple(
        Head(factor.name, "class", factor.size)
        if factor.range is None
        else Head(factor.name, "circular" if factor.circular else "linear")
        for factor in factors
    )


def targets_of(factors: Sequence[Factor], classes: Int64, values: Float64) -> dict[str, Tensor]:
    """Return what a network should predict: classes int64 [N], shares of the range [N], or (cos, sin) [N, 2].

    classes: [N, F]; values: [N, V], of the continuous factors in their order.
    """
    targets: dict[str, Tensor] = {}
    columns = iter(torch.from_numpy(values).unbind(1))
    for factor, of_factor in zip(factors, torch.from_numpy(classes).unbind(1), strict=True):
        if factor.range is None:
            targets[factor.name] = of_factor
            continue
        low, high = factor.range
        share = (next(columns) - low) / (high - low)
        angle = 2 * torch.pi * share
        target = torch.stack((angle.cos(), angle.sin()), 1) if factor.circular else share
        targets[factor.name] = target.float()
    return targets


def load_face_extractor(path: Path = WEIGHTS) -> FaceExtractor:
    """Load the shipped network. Raises UserError where the file is not the one that its .json records."""
    weights = read_weights(path, COMMAND)
    heads = heads_of([Factor.model_validate(factor) for factor in weights.record["data"]["factors"]])
    return FaceExtractor(ready(FaceNet(heads), weights), weights.sha256, heads)
