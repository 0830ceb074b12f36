"""The shipped factor networks: FID features and predicted factors of an image, and the sprite that those draw."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from common.arrays import Float32, Float64
from data_shards.sources.sprites.renderer import Factors, render_factors
from evaluation.inputs.choices import FidProtocol
from models import FactorNet, FactorPrediction
from models.factor_net import FEATURES, SYMMETRY

from .extractor import Extractor, at_64_px, read_weights, ready

WEIGHTS = Path(__file__).parent / "weights" / "factor_net.safetensors"
SCREAM_WEIGHTS = WEIGHTS.with_name("factor_net_scream.safetensors")  # trained on many backgrounds, on Scream alone
FAITHFUL_IOU = 0.8  # overlap with the predicted sprite, from which on an image is a faithful sprite
VARIANTS_WITH_FIDELITY = ("plain", "color")  # those whose background is black
FULL_RANGE = {"x": (0.0, 1.0), "y": (0.0, 1.0), "scale": (0.5, 1.0)}


@dataclass(frozen=True)
class FactorExtractor(Extractor):
    """Reads the dSprites family."""

    protocol: ClassVar[FidProtocol] = "factor-net"
    dim: ClassVar[int] = FEATURES

    @property
    def movable(self) -> tuple[str, ...]:
        """x, y and scale. The orientation is left out: its head is an angle of its own for every shape."""
        return tuple(FULL_RANGE)

    def features(self, images: Tensor) -> Tensor:
        """Return features [B, 128] on the CPU. images: uint8 [B, 1 or 3, R, R], R >= 64."""
        return self.extract(images)[0]

    def readings(self, images: Tensor, variant: str) -> dict[str, Tensor]:
        """Return x, y, scale [B, 1], clamped to what dSprites can draw, and the probabilities of the shape [B, 3].

        In plain and Color the mean of each channel over the sprite [B, 1] comes with them: the sprite's pixels are the
        bright ones, so the background must be black. The orientation is left out: its heads were each trained on images
        of one shape alone, so that no one scalar holds for images whose shapes differ. images: uint8 [B, 1 or 3, R, R].
        """
        images = at_64_px(images)
        prediction = self.extract(images)[1]
        values = {"x": prediction.x, "y": prediction.y, "scale": prediction.scale}
        measured = {name: value.clamp(*FULL_RANGE[name])[:, None] for name, value in values.items()}
        measured["shape"] = prediction.shape.softmax(1)
        if variant in ("plain", "color"):
            names = ("red", "green", "blue") if images.shape[1] == 3 else ("brightness",)
            measured |= dict(zip(names, sprite_colour(images).split(1, 1), strict=True))
        return measured

    def units(self, factor: str) -> str:
        """Return the range of a reading's components, for a reader."""
        return {"scale": "0.5 to 1", "shape": "3 probabilities"}.get(factor, "0 to 1")

    def shares_of_range(self, images: Tensor) -> list[float]:
        """Return the share of its full range that x, y and scale each move over, mean of bases.

        images: uint8 [bases, steps, C, R, R].
        """
        prediction = self.extract(images.flatten(0, 1))[1]
        shares = []
        for name, (low, high) in FULL_RANGE.items():
            values = getattr(prediction, name).clamp(low, high).unflatten(0, images.shape[:2])
            shares.append(float((values.amax(1) - values.amin(1)).mean()) / (high - low))
        return shares


def weights_of(variant: str, sha256: str | None = None) -> Path:
    """Return the weights for a variant of dSprites. sha256: of those behind older figures, None for no such figures.

    Before there were weights for Scream alone its figures were of the others.
    """
    if variant != "scream":
        return WEIGHTS
    of_the_others = sha256 is not None and sha256 == json.loads(WEIGHTS.with_suffix(".json").read_text())["sha256"]
    return WEIGHTS if of_the_others else SCREAM_WEIGHTS


def load_factor_extractor(path: Path = WEIGHTS) -> FactorExtractor:
    """Load a shipped network. Raises UserError where the file is not the one that its .json records."""
    pictures = " --scream PICTURE ... --held-out PICTURE ..." if path.name == SCREAM_WEIGHTS.name else ""
    weights = read_weights(path, f"python -m evaluation.factors.train_factor_net {path}{pictures}")
    return FactorExtractor(ready(FactorNet(), weights), weights.sha256)


def to_factors(prediction: FactorPrediction, within: bool = True) -> Factors:
    """Return the predicted factor values. within: clamp them to what dSprites can draw."""
    shape = prediction.shape.argmax(1)
    angle = prediction.angle[torch.arange(len(shape)), shape]
    theta = torch.atan2(angle[:, 1], angle[:, 0]) / torch.tensor(SYMMETRY)[shape]
    return Factors(
        shape.numpy(),
        _clamped(prediction.scale, "scale", within),
        theta.double().numpy(),
        _clamped(prediction.x, "x", within),
        _clamped(prediction.y, "y", within),
    )


def _clamped(value: Tensor, name: str, within: bool) -> Float32:
    values: Float32 = (value.clamp(*FULL_RANGE[name]) if within else value).numpy()
    return values


def sprite_mask(images: Tensor) -> Tensor:
    """Return the pixels of each sprite: where the channel maximum is above half of its peak; none in a black image.

    images: uint8 [B, C, 64, 64]. Returns bool [B, 64, 64].
    """
    light = images.amax(1).float()
    return light > light.amax((1, 2), keepdim=True) / 2


def sprite_colour(images: Tensor) -> Tensor:
    """Return the mean of each channel over the pixels of the sprite, [B, C] in [0, 1]; 0 where there is no sprite.

    images: uint8 [B, C, 64, 64].
    """
    mask = sprite_mask(images)[:, None]
    return (images * mask).sum((2, 3)) / mask.sum((2, 3)).clamp_min(1) / 255


def sprite_iou(images: Tensor, prediction: FactorPrediction) -> Float64:
    """Return the overlap (IoU) of each image with the sprite that its predicted factors draw: [B] in [0, 1].

    images: uint8 [B, C, R, R]. The image's mask is that of `sprite_mask` at 64 px; a black image has overlap 0.
    """
    mask = sprite_mask(at_64_px(images)).cpu().numpy()
    drawn = render_factors(to_factors(prediction)).astype(bool)
    union = (mask | drawn).sum((1, 2))
    return np.asarray((mask & drawn).sum((1, 2)) / np.maximum(union, 1))
