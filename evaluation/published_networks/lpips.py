"""LPIPS on VGG16 as a distance between images: what path lengths are measured with.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018). The network is the
TorchScript file vgg16.pt that comes with StyleGAN2-ADA's metrics, as published path lengths are measured: called with
`return_lpips=True` it gives features [B, D] whose squared distance is LPIPS.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UserError, first_line

PIXELS = 255  # images are in [0, 255]


def lpips_features(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Load vgg16.pt. Raises a UserError where the file is missing or is no such network.

    Returns a function of float images [B, 3, H, W] in [0, 255] to features [B, D].
    """
    if not path.is_file():
        raise UserError(f"--weights: {path} is not there; name vgg16.pt, which StyleGAN2-ADA's metrics download")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated")  # the published file is what it is
            network = torch.jit.load(path, map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{path}: is no TorchScript file ({first_line(error)}); name vgg16.pt of StyleGAN2-ADA"
        ) from None

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        """Float [B, 3, H, W] in [0, 255] -> [B, D]."""
        try:
            found: Tensor = network(images, resize_images=False, return_lpips=True)
        except (RuntimeError, TypeError) as error:
            raise UserError(f"{path}: is not the VGG16 of StyleGAN2-ADA's metrics ({first_line(error)})") from None
        return found.flatten(1)

    return features
