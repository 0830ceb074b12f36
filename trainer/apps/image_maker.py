"""The images of a model, one at a time: their bits do not depend on a batch, nor does the memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.export.exported_model import Model
from trainer.pictures.image_grids import to_uint8

from .latents import Latents


@dataclass(frozen=True)
class ImageMaker:
    """Makes images uint8 [B, C, R, R] on the CPU, with the model's networks on a device."""

    model: Model
    latents: Latents
    device: torch.device

    def __post_init__(self) -> None:
        for network in (self.model.generator, self.model.vae):
            if network is not None:
                network.to(self.device)

    def of_seed(self, seed: int) -> Tensor:
        """Make the image of a seed: [1, C, R, R]."""
        return self.of(*self.latents.of(seed))

    def of(self, s: Tensor, c: Tensor) -> Tensor:
        """Make images of latents [B, nuisance_dim] and [B, c_dim]."""
        return torch.cat(
            [to_uint8(self.model.generate(a, b)).cpu() for a, b in zip(self._rows(s), self._rows(c), strict=True)]
        )

    def decoded(self, c: Tensor) -> Tensor:
        """Make the VAE's images of codes [B, c_dim]: [B, C, 64, 64]."""
        return torch.cat([to_uint8(self.model.decode(row)).cpu() for row in self._rows(c)])

    def _rows(self, latents: Tensor) -> tuple[Tensor, ...]:
        return latents.to(self.device).split(1)
