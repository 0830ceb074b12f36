"""Generator and discriminator of Table A.3 (dSprites and its variants), 64 px.

The table leaves out what the authors' code has: tanh at the generator's output, ReLU after FC 256 in both.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from .layers import Chain, CodeProjection, Conv2d, Flatten, LeakyReLU, Linear


class DiscriminatorOutput(NamedTuple):
    """logits: [B], positive for real; tangent: [B], the derivative of the logits along the given tangent, or None."""

    logits: Tensor
    tangent: Tensor | None


def conv_decoder(code_dim: int, channels: int) -> nn.Sequential:
    """FC 256, FC 4x4x64, four 4x4 up-convolutions: shared by Tables A.2 and A.3. [B, code] -> [B, C, 64, 64]."""
    layers: list[nn.Module] = [nn.Linear(code_dim, 256), nn.ReLU(), nn.Linear(256, 64 * 4 * 4), nn.ReLU()]
    layers.append(nn.Unflatten(1, (64, 4, 4)))
    for fin, fout in ((64, 64), (64, 32), (32, 32)):
        layers += [nn.ConvTranspose2d(fin, fout, 4, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(32, channels, 4, 2, 1))


class ConvGenerator(nn.Module):
    """G of Table A.3. z: [B, z_dim] = [s, c] -> [B, channels, 64, 64] in (-1, 1)."""

    def __init__(self, z_dim: int, channels: int) -> None:
        super().__init__()
        self.layers = conv_decoder(z_dim, channels)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).tanh()


class ConvDiscriminator(nn.Module):
    """D of Table A.3. x: [B, channels, 64, 64] in [-1, 1]; tangent: None or of x's shape, the tangent of x.

    c_dim > 0 is cGAN's: D judges the pair (x, c), with c: [B, c_dim], through a CodeProjection of its FC 256.
    """

    def __init__(self, channels: int, c_dim: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fin, fout in ((channels, 32), (32, 32), (32, 64), (64, 64)):
            layers += [Conv2d(fin, fout, 4, 2, 1), LeakyReLU(0)]
        self.layers = Chain(*layers, Flatten(), Linear(64 * 4 * 4, 256), LeakyReLU(0))
        self.output = Linear(256, 1)
        self.projection = CodeProjection(256, c_dim) if c_dim else None

    def forward(self, x: Tensor, tangent: Tensor | None = None, c: Tensor | None = None) -> DiscriminatorOutput:
        features, along = self.layers(x, tangent)
        logits, slope = self.output(features, along)
        if self.projection is not None:
            assert c is not None, "a discriminator of pairs needs c"
            more, more_slope = self.projection(features, along, c)
            logits, slope = logits + more, None if slope is None else slope + more_slope
        return DiscriminatorOutput(logits.squeeze(1), None if slope is None else slope.squeeze(1))
