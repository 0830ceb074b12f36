"""The networks whose features are compared, by protocol, each a function of uint8 images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from common.errors import UserError
from common.paths import Location
from data_shards.read.dsprites_variants import Painting
from data_shards.read.loader import CODE_RESOLUTION
from evaluation.factors.backgrounds import warn_of_painting
from evaluation.factors.extractor import Extractor, at_64_px
from evaluation.factors.face_network import load_face_extractor, warn_of_version
from evaluation.factors.factor_network import FAITHFUL_IOU, load_factor_extractor, sprite_iou, weights_of
from evaluation.inputs.choices import FidProtocol
from evaluation.inputs.results import Results
from evaluation.published_networks import dinov2, inception
from evaluation.records import network_files
from trainer.config.feature_networks import SHIPPED_NETWORKS, default_protocol, sha256, verified_sha256
from trainer.config.sections import InceptionConfig
from trainer.stages.data import Data

from .partial_sums import Extracted

Weighted = Literal["clean", "legacy_pytorch", "dinov2"]  # protocols whose network is a file of the user's
LOADERS: dict[str, Callable[[Path, torch.device], Callable[[Tensor], Tensor]]] = {
    "clean": inception.clean,
    "legacy_pytorch": inception.legacy_pytorch,
    "dinov2": dinov2.dinov2,
}
log = logging.getLogger(__name__)


class DrawnImages(NamedTuple):
    """Which drawn images a shipped network is to look at: what decides which network it is, and what it may not know.

    variant: of dSprites; painting: behind Scream's, which is warned of where the network reads badly on it; known:
    sha256 of the network behind statistics that are there already; recipe: of the set, where there is one: faces of
    another version than the network's are warned of.
    """

    variant: str
    painting: Painting | None = None
    known: str | None = None
    recipe: Mapping[str, Any] | None = None


PLAIN = DrawnImages("plain")


def drawn_images(data: Data, known: str | None = None) -> DrawnImages:
    """Return what the images of a set are to a shipped network."""
    return DrawnImages(data.variant, data.painting, known, data.main.manifest.recipe)


@dataclass(frozen=True)
class FeatureNet:
    """A network for features. FIDs compare only under the same sha256.

    dim: number of features; at: px of the reals that it takes, None for the run's own resolution; extract(images,
    faithful): uint8 [B, C, R, R] -> features [B, dim], with sprite fidelity where `faithful` is True.
    """

    protocol: FidProtocol
    sha256: str
    dim: int
    at: int | None
    device: torch.device
    extract: Callable[[Tensor, bool], Extracted]


def refuse_unknown(path: Location, protocol: FidProtocol, data_set: str, option: str = "--protocol") -> None:
    """Raise a UserError where a protocol's network is a shipped one that does not know a data set.

    Faces of another style are warned of: what the network says of them is wrong, but its features tell them apart.
    path, option: to name.
    """
    for known, network in SHIPPED_NETWORKS.items():
        if network == protocol and data_set.startswith(f"{known}-"):
            log.warning(
                "warning: %s: the network of %s has not seen %s; its distances compare with those of this style alone",
                path,
                protocol,
                data_set,
            )
        elif network == protocol and known != data_set:
            raise UserError(
                f"{path}: of {data_set}; the network of {protocol} knows {known} only; "
                f"use {option} {default_protocol(data_set)}"
            )


def shipped(extractor: Extractor, device: torch.device = inception.CPU) -> FeatureNet:
    """Return the features of a shipped network, with sprite fidelity where it is the factor network."""
    extractor.network.to(device)

    def extract(images: Tensor, faithful: bool) -> Extracted:
        """Return the features of images, with sprite fidelity where it is wanted."""
        small = at_64_px(images)  # once for features and fidelity
        features, prediction = extractor.extract(small)
        if not faithful:
            return Extracted(features)
        return Extracted(features, torch.from_numpy(sprite_iou(small, prediction) >= FAITHFUL_IOU))

    return FeatureNet(extractor.protocol, extractor.sha256, extractor.dim, CODE_RESOLUTION, device, extract)


def load(
    protocol: FidProtocol,
    config: InceptionConfig,
    weights: Path | None,
    results: Results | None,
    device: torch.device,
    images: DrawnImages,
) -> FeatureNet:
    """Load the network of a protocol. weights: its file, None for the config's; images: for shipped ones.

    Its sha256 must be the config's, or the one in the file's name, and the one that RUN's first evaluation recorded.
    Raises UserError where it is another one, or where the file is missing or holds no such network.
    """
    if protocol == "factor-net" or protocol == "face-net":
        if weights is not None:
            raise UserError(
                f"--weights: {weights}: {protocol} is shipped; leave it out, or ask for the features of another network"
            )
        factor_net = protocol == "factor-net"
        extractor = (
            load_factor_extractor(weights_of(images.variant, images.known)) if factor_net else load_face_extractor()
        )
        warn_of_painting(extractor, images.painting)
        warn_of_version(extractor, images.recipe)
        return shipped(extractor, device)
    path, digest = _weights(protocol, config, weights)
    if results is not None:
        network_files.refuse_another(results, protocol, path, digest)
    features = LOADERS[protocol](path, device)
    blank = torch.zeros(1, 3, CODE_RESOLUTION, CODE_RESOLUTION, dtype=torch.uint8, device=device)
    dim = features(blank).shape[1]
    return FeatureNet(protocol, digest, dim, None, device, lambda images, faithful: Extracted(features(images)))


def _weights(protocol: Weighted, config: InceptionConfig, given: Path | None) -> tuple[Path, str]:
    """Return the file of a network that is not shipped, and its sha256."""
    if protocol != "dinov2":
        path = given or getattr(config, protocol)
        return path, verified_sha256(protocol, path, config.clean_sha256)
    if given is None or not given.is_file():
        missing = "is missing" if given is None else f"{given} is not there"
        raise UserError(
            f"--weights: {missing}; --protocol dinov2 needs the file of DINOv2's ViT-L/14, "
            "dinov2_vitl14_pretrain.pth, which DINOv2's authors publish"
        )
    return given, sha256(given)


def record(results: Results, net: FeatureNet) -> None:
    """Record the sha256 of a network that is not shipped: all numbers of a run must come from one file of weights."""
    if net.protocol in LOADERS:
        network_files.record(results, net.protocol, net.sha256)
