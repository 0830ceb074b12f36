"""The interface of the shipped networks that read factors from images, each for one family of data sets."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from common.errors import UserError
from data_shards.format.pyramid import box_mean
from evaluation.inputs.choices import FidProtocol
from models import freeze

AT_ONCE = 8  # images that are pooled in one go: 100 MB of floats at 1024 px


@dataclass(frozen=True)
class Extractor(ABC):
    """A network that reads features and factors from images. sha256: of its weights.

    FIDs compare only under the same hash.
    """

    network: nn.Module
    sha256: str
    protocol: ClassVar[FidProtocol]
    dim: ClassVar[int]
    """Number of features."""

    @property
    @abstractmethod
    def movable(self) -> tuple[str, ...]:
        """Names of the factors whose movement `shares_of_range` measures."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return features [B, dim] on the CPU. images: uint8 [B, C, R, R], R >= 64."""

    @abstractmethod
    def readings(self, images: Tensor, variant: str) -> dict[str, Tensor]:
        """Return what is read from each image, by factor: components [B, K]. images: uint8 [B, C, R, R]."""

    @abstractmethod
    def units(self, factor: str) -> str:
        """Return the range of a reading's components, for a reader."""

    @abstractmethod
    def shares_of_range(self, images: Tensor) -> list[float]:
        """Return the share of its full range that each factor of `movable` moves over, mean of bases.

        images: uint8 [bases, steps, C, R, R].
        """

    @torch.no_grad()
    def extract(self, images: Tensor) -> tuple[Tensor, Any]:
        """Return (features [B, dim], predicted factors), both on the CPU. images: uint8 [B, C, R, R], R >= 64."""
        features = self.network.features(at_64_px(images).float() / 255)  # type: ignore[operator]
        return features.cpu(), _on_cpu(self.network.predict(features))  # type: ignore[operator]


def _on_cpu(prediction: Any) -> Any:
    """Move a named tuple or a dictionary of tensors to the CPU."""
    if isinstance(prediction, Mapping):
        return {name: part.cpu() for name, part in prediction.items()}
    return type(prediction)(*(part.cpu() for part in prediction))


def at_64_px(images: Tensor) -> Tensor:
    """Shrink images as the reals' 64 px level was made: the box mean, rounded.

    images: uint8 [B, C, R, R], R = 64 * 2^k. Returns uint8 [B, C, 64, 64].
    """
    return images if images.shape[-1] == 64 else torch.cat([box_mean(part, 64) for part in images.split(AT_ONCE)])


@dataclass(frozen=True)
class ShippedWeights:
    """Weights as they are shipped. record: the .json file beside them."""

    tensors: dict[str, Tensor]
    sha256: str
    record: dict[str, Any]


def read_weights(path: Path, command: str) -> ShippedWeights:
    """Read shipped weights. command: makes them. Raises UserError where the file is not the one that .json records."""
    record_path = path.with_suffix(".json")
    if not path.is_file() or not record_path.is_file():
        raise UserError(f"{path}: is missing; make it with `{command}`")
    data = path.read_bytes()
    digest, record = hashlib.sha256(data).hexdigest(), json.loads(record_path.read_text())
    if digest != record["sha256"]:
        raise UserError(f"{path}: sha256 is {digest}, {record['sha256']} is recorded; install the package again")
    return ShippedWeights({name: tensor.float() for name, tensor in load_tensors(data).items()}, digest, record)


def ready(network: nn.Module, weights: ShippedWeights) -> nn.Module:
    """Load weights into a network and freeze it."""
    network.load_state_dict(weights.tensors)
    freeze(network)
    return network.to(memory_format=torch.channels_last)
