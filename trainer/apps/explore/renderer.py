"""The pictures of the page, as PNG files. The image of a code has the bytes that `generate` would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models import Generator
from trainer.apps.image_maker import ImageMaker
from trainer.apps.latents import latents_of
from trainer.export.exported_model import Model
from trainer.pictures.image_grids import picture_of, png, to_uint8

from .latest import Check

LARGE = 512  # px from which on a smaller image is shown first
PREVIEW = 128  # px of it


class Renderer:
    """Makes pictures of latents s [1, s_dim] and c [1, c_dim], one at a time: its caller has it in one thread.

    latents: s and c by seed, as `generate` has them.
    """

    def __init__(self, model: Model, path: Path, device: torch.device) -> None:
        self.model, self.device = model, device
        self.latents = latents_of(model, path, None, 1.0, ())
        self._maker = ImageMaker(model, self.latents, device)
        self._check: Check | None = None
        for network in (model.generator, model.vae):
            for module in network.modules() if network is not None else ():
                module.register_forward_pre_hook(self._before_layer)

    def image(self, s: Tensor, c: Tensor, check: Check) -> bytes:
        """Return the model's image. Raises Overtaken as soon as `check` does, also between two layers."""
        return self._until(check, lambda: self._maker.of(s, c))

    def preview(self, s: Tensor, c: Tensor, check: Check) -> bytes:
        """Return a smaller image, of `preview_resolution` px."""
        resolution = preview_resolution(self.model)
        assert resolution is not None
        z = s.to(self.device), c.to(self.device)
        with torch.no_grad():
            return self._until(check, lambda: to_uint8(self.model.draw(*z, resolution)).cpu())

    def decoding(self, c: Tensor, check: Check) -> bytes:
        """Return the VAE's decoding of a code, of 64 px."""
        return self._until(check, lambda: self._maker.decoded(c))

    def encode(self, picture: Tensor) -> Tensor:
        """Return the mean of q(c|x) of a picture uint8 [1, C, R, R]: [1, c_dim]."""
        on = self.device if self.model.vae is not None else torch.device("cpu")  # where ImageMaker put the encoder
        return self.model.encode(picture.to(on).float() / 255)[0].cpu()

    def _until(self, check: Check, make: Any) -> bytes:
        check()
        self._check = check
        try:
            return png(picture_of(make()[0]))
        finally:
            self._check = None

    def _before_layer(self, module: nn.Module, inputs: Any) -> None:
        if self._check is not None:
            self._check()


def preview_resolution(model: Model) -> int | None:
    """Return the px of smaller images that G makes on the way to a large one; None where it makes none.

    With `growth.skips` an image is the sum of what all resolutions give, and less of it is the same image with less
    detail. Without, image layers below the active resolution are no longer trained.
    """
    generator = model.generator
    if model.metadata.resolution < LARGE or not isinstance(generator, Generator) or not generator.skips:
        return None
    return max((r for r in generator.block_resolutions if generator.start <= r <= PREVIEW), default=None)
