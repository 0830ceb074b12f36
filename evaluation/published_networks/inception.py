"""The Inception networks that published FIDs are made with, as functions from uint8 images to features [B, 2048].

Both files hold the weights of 2015-12-05. `clean` is that of Parmar et al., "On Aliased Resizing and Surprising
Subtleties in GAN Evaluation" (clean-fid): TorchScript, after a bicubic, antialiased resize without rounding.
`legacy_pytorch` is that of pytorch-fid, which the ID-GAN paper used: a state dict for torchvision's Inception with
other pooling, after a bilinear resize without antialiasing.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.inception import Inception3, InceptionA, InceptionC, InceptionE

from common.errors import UserError, first_line
from models import freeze
from trainer.config.feature_networks import Inception, sha256

SIDE, FEATURES = 299, 2048  # px that Inception takes; features that it gives
# Where the weights are published: NVIDIA's TorchScript file, which clean-fid downloads (cleanfid/downloads_helper.py),
# and pytorch-fid's release fid_weights (cleanfid/inception_pytorch.py).
CLEAN_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
LEGACY_PYTORCH_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
)
CPU = torch.device("cpu")
Features = Callable[[Tensor], Tensor]


def clean(path: Path, device: torch.device = CPU) -> Features:
    """Load inception-2015-12-05.pt. Raises a UserError where the file is no such network."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated")  # the published file is what it is
            layers = torch.jit.load(path, map_location=device).eval().layers
    except (RuntimeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: is not the TorchScript Inception of clean-fid ({first_line(error)})") from None

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        """uint8 [B, 1 or 3, H, W] -> [B, 2048]."""
        pooled: Tensor = layers(for_clean(images).sub_(128).div_(128))
        return pooled.reshape(len(images), -1)

    return features


def legacy_pytorch(path: Path, device: torch.device = CPU) -> Features:
    """Load pt_inception-2015-12-05-6726825d.pth. Raises a UserError where the file is no such network."""
    network = PytorchFid()
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, ValueError, EOFError, AttributeError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: does not hold the weights of pytorch-fid's Inception ({first_line(error)})") from None
    network.fc = nn.Identity()  # the features are the input of the classifier
    freeze(network).to(device)

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        """uint8 [B, 1 or 3, H, W] -> [B, 2048]."""
        pooled: Tensor = network(for_legacy_pytorch(images) / 255 * 2 - 1)
        return pooled

    return features


def for_clean(images: Tensor) -> Tensor:
    """Resize as clean-fid does with PIL: uint8 [B, 1 or 3, H, W] -> [B, 3, 299, 299] in [0, 255]."""
    return F.interpolate(_rgb(images), (SIDE, SIDE), mode="bicubic", antialias=True).clamp_(0, 255)


def for_legacy_pytorch(images: Tensor) -> Tensor:
    """Resize as pytorch-fid does: uint8 [B, 1 or 3, H, W] -> [B, 3, 299, 299] in [0, 255]."""
    return F.interpolate(_rgb(images), (SIDE, SIDE), mode="bilinear", align_corners=False)


def fetch(protocol: Inception, path: Path) -> str:
    """Download the published weights to `path` and return their sha256. Raises UserError without a network."""
    url = CLEAN_URL if protocol == "clean" else LEGACY_PYTORCH_URL
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        torch.hub.download_url_to_file(url, str(temporary))
        (clean if protocol == "clean" else legacy_pytorch)(temporary)
        os.replace(temporary, path)
    except (OSError, HTTPException) as error:  # of urllib
        raise UserError(
            f"{path}: cannot be fetched ({error}); on a machine with a network run the same command, and copy the file"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return sha256(path)


class _OwnPool(nn.Module):
    """A block of torchvision's Inception whose last branch pools as TensorFlow's network does."""

    branch_pool: nn.Module

    def _forward(self, x: Tensor) -> list[Tensor]:
        *others, _ = super()._forward(x)  # type: ignore[misc]
        return [*others, self.branch_pool(self.pool(x))]

    def pool(self, x: Tensor) -> Tensor:
        """Average over 3 x 3; the padding does not count."""
        return F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)


class _A(_OwnPool, InceptionA):
    pass


class _C(_OwnPool, InceptionC):
    pass


class _E(_OwnPool, InceptionE):
    pass


class _LastE(_OwnPool, InceptionE):
    def pool(self, x: Tensor) -> Tensor:
        """Maximum over 3 x 3."""
        return F.max_pool2d(x, 3, 1, padding=1)


class PytorchFid(Inception3):
    """torchvision's Inception with pytorch-fid's pooling: averages leave the padding out, the last one is a maximum."""

    def __init__(self) -> None:
        super().__init__(num_classes=1008, aux_logits=False, init_weights=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _A(192, 32), _A(256, 64), _A(288, 64)
        self.Mixed_6b, self.Mixed_6c = _C(768, 128), _C(768, 160)
        self.Mixed_6d, self.Mixed_6e = _C(768, 160), _C(768, 192)
        self.Mixed_7b, self.Mixed_7c = _E(1280), _LastE(2048)


def _rgb(images: Tensor) -> Tensor:
    return images.float().expand(-1, 3, -1, -1)
