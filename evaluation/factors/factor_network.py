"""The shipped factor network: FID features and predicted factors of an image, and the sprite that those draw."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

from common.arrays import Float32, Float64
from common.errors import UserError
from data_shards.format.pyramid import box_mean
from data_shards.sources.sprites.renderer import Factors, render_factors
from models import FactorNet, FactorPrediction, freeze
from models.factor_net import SYMMETRY

WEIGHTS = Path(__file__).parent / "weights" / "factor_net.safetensors"
AT_ONCE = 8  # images that are pooled in one go: 100 MB of floats at 1024 px
FULL_RANGE = {"x": (0.0, 1.0), "y": (0.0, 1.0), "scale": (0.5, 1.0)}


@dataclass(frozen=True)
class Extractor:
    """The factor network and the sha256 of its weights: FIDs compare only under the same hash."""

    network: FactorNet
    sha256: str

    @torch.no_grad()
    def extract(self, images: Tensor) -> tuple[Tensor, FactorPrediction]:
        """Return (features [B, 128], predicted factors), both on the CPU. images: uint8 [B, 1 or 3, R, R], R >= 64."""
        features = self.network.features(at_64_px(images).float() / 255)
        predicted = self.network.predict(features)
        return features.cpu(), FactorPrediction(*(part.cpu() for part in predicted))


def load_extractor(path: Path = WEIGHTS) -> Extractor:
    """Load the shipped network. Raises UserError where the file is not the one that its .json records."""
    if not path.is_file():
        raise UserError(f"{path}: is missing; make it with `python -m evaluation.factors.train {path}`")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    recorded = json.loads(path.with_suffix(".json").read_text())["sha256"]
    if digest != recorded:
        raise UserError(f"{path}: sha256 is {digest}, {recorded} is recorded; install the package again")
    network = FactorNet()
    network.load_state_dict({name: t.float() for name, t in load_tensors(data).items()})
    freeze(network)
    return Extractor(network.to(memory_format=torch.channels_last), digest)


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


def at_64_px(images: Tensor) -> Tensor:
    """Shrink images as the reals' 64 px level was made: the box mean, rounded.

    images: uint8 [B, C, R, R], R = 64 * 2^k. Returns uint8 [B, C, 64, 64].
    """
    return images if images.shape[-1] == 64 else torch.cat([box_mean(part, 64) for part in images.split(AT_ONCE)])


def sprite_mask(images: Tensor) -> Tensor:
    """Return the pixels of each sprite: where the channel maximum is above half of its peak; none in a black image.

    images: uint8 [B, C, 64, 64]. Returns bool [B, 64, 64].
    """
    light = images.amax(1).float()
    return light > light.amax((1, 2), keepdim=True) / 2


def sprite_iou(images: Tensor, prediction: FactorPrediction) -> Float64:
    """Return the overlap (IoU) of each image with the sprite that its predicted factors draw: [B] in [0, 1].

    images: uint8 [B, C, R, R]. The image's mask is that of `sprite_mask` at 64 px; a black image has overlap 0.
    """
    mask = sprite_mask(at_64_px(images)).cpu().numpy()
    drawn = render_factors(to_factors(prediction)).astype(bool)
    union = (mask | drawn).sum((1, 2))
    return np.asarray((mask & drawn).sum((1, 2)) / np.maximum(union, 1))
