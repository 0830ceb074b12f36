"""DINOv2's ViT-L/14 as a function from uint8 images to features [B, 1024]: the features of FD-DINOv2.

Stein et al., "Exposing flaws of generative model evaluation metrics" (2023): a Fréchet distance between these features
follows human judgement of images better than one between Inception's. The network is that of Oquab et al. (2023), built
by timm; its weights, dinov2_vitl14_pretrain.pth as DINOv2 publishes them or timm's file of the same network, are the
user's. Images are resized to 224 px, bicubic and antialiased, and scaled by ImageNet's mean and deviation; the features
are the class token after the last norm.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from common import shipped
from common.errors import UserError, first_line
from models import freeze

SIDE, PATCH = 224, 14  # px
ARCHITECTURE = "vit_large_patch14_dinov2"  # timm's name
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in [0, 1]
OFFSET = 0.1  # that DINOv2 adds to the side of its grid before it divides, against rounding
CPU = torch.device("cpu")


def dinov2(path: Path, device: torch.device = CPU, architecture: str = ARCHITECTURE) -> Callable[[Tensor], Tensor]:
    """Load a file of weights. Raises a UserError where timm is not installed, or the file holds no such network."""
    network = _network(architecture)
    weights = _read(path)
    weights.pop("mask_token", None)  # of its training
    if "pos_embed" in weights:
        weights["pos_embed"] = for_grid(weights["pos_embed"], SIDE // PATCH)
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: does not hold the weights of DINOv2's ViT-L/14 ({first_line(error)})") from None
    freeze(network).to(device)

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        """uint8 [B, 1 or 3, H, W] -> [B, 1024]."""
        return cast(Tensor, network(prepared(images)))

    return features


def prepared(images: Tensor) -> Tensor:
    """Resize and scale images: uint8 [B, 1 or 3, H, W] -> float32 [B, 3, 224, 224]."""
    rgb = images.expand(-1, 3, -1, -1).float()
    resized = F.interpolate(rgb, (SIDE, SIDE), mode="bicubic", antialias=True).clamp_(0, 255) / 255
    mean, deviation = (torch.tensor(values, device=rgb.device)[:, None, None] for values in (MEAN, DEVIATION))
    return (resized - mean) / deviation


def for_grid(positions: Tensor, side: int) -> Tensor:
    """Resample the embedding of positions as DINOv2 does: [1, 1 + n * n, D] -> [1, 1 + side * side, D].

    It was trained on 518 px, 37 patches a side. timm would resample with antialiasing, and its features would differ.
    """
    old = round((positions.shape[1] - 1) ** 0.5)
    if old == side or positions.shape[1] != 1 + old * old:
        return positions
    grid = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2).float()
    resampled = F.interpolate(grid, scale_factor=(side + OFFSET) / old, mode="bicubic")
    return torch.cat((positions[:, :1], resampled.flatten(2).transpose(1, 2).to(positions.dtype)), 1)


def _network(architecture: str) -> nn.Module:
    """Build the network without weights, for 224 px; the class token is its output."""
    try:
        import timm
    except ImportError:
        raise UserError(
            f"--protocol dinov2: timm, which builds the network, is not installed; {shipped.installing('dinov2')}"
        ) from None
    return timm.create_model(architecture, img_size=SIDE, num_classes=0, global_pool="token")


def _read(path: Path) -> dict[str, Tensor]:
    """Read a state dict: a safetensors file or one of torch.save."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, SafetensorError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: cannot be read as weights ({first_line(error)})") from None
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise UserError(f"{path}: holds no tensors by name; name DINOv2's dinov2_vitl14_pretrain.pth")
    return dict(loaded)
