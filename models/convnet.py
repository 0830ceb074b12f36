"""Generator and discriminator of Table A.3 (dSprites and its variants), 64 px.

The table leaves out what the authors' code has: tanh at the generator's output, ReLU after FC 256 in both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .discriminator_output import DiscriminatorOutput, LogitHead
from .layers import Chain, Conv2d, Flatten, LeakyReLU, Linear, Pair


def conv_decoder(code_dim: int, channels: int) -> nn.Sequential:
    """Build the decoder that Tables A.2 and A.3 share: FC 256, FC 4x4x64, four 4x4 up-convolutions.

    It maps [B, code_dim] to logits [B, channels, 64, 64]. The second FC is the table's, with 1,024 biases; the authors'
    code has a transposed convolution there, with 64.
    """
    layers: list[nn.Module] = [nn.Linear(code_dim, 256), nn.ReLU(), nn.Linear(256, 64 * 4 * 4), nn.ReLU()]
    layers.append(nn.Unflatten(1, (64, 4, 4)))
    for fin, fout in ((64, 64), (64, 32), (32, 32)):
        layers += [nn.ConvTranspose2d(fin, fout, 4, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(32, channels, 4, 2, 1))


class ConvGenerator(nn.Module):
    """G of Table A.3. z: [B, z_dim] = [s, c], or [s, y, c] -> [B, channels, 64, 64] in (-1, 1). It does not grow."""

    def __init__(self, z_dim: int, channels: int) -> None:
        super().__init__()
        self.layers = conv_decoder(z_dim, channels)

    def forward(self, z: Tensor, resolution: int | None = None, alpha: Tensor | None = None) -> Tensor:
        """z: [B, z_dim] -> images [B, channels, 64, 64] in (-1, 1). resolution, alpha: as if fully grown."""
        assert resolution in (None, 64)
        assert alpha is None
        return self.layers(z).to(z.dtype).tanh()  # under autocast it comes in bf16


class ConvDiscriminator(nn.Module):
    """D of Table A.3. x: [B, channels, 64, 64] in [-1, 1]; tangent: None or of x's shape, the tangent of x.

    With c_dim > 0 it is cGAN's: D judges the pair (x, c), with c: [B, c_dim], through a CodeProjection of its FC 256;
    with y_dim > 0 pairs with label vectors y: [B, y_dim]. It has no bottleneck and does not grow.
    """

    noise_shape = (0,)

    def __init__(self, channels: int, c_dim: int = 0, y_dim: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fin, fout in ((channels, 32), (32, 32), (32, 64), (64, 64)):
            layers += [Conv2d(fin, fout, 4, 2, 1), LeakyReLU(0)]
        self.layers = Chain(*layers, Flatten(), Linear(64 * 4 * 4, 256), LeakyReLU(0))
        self.judge = LogitHead(256, c_dim, y_dim)  # named so in checkpoints

    def forward(
        self,
        x: Tensor,
        noise: Tensor | None = None,
        tangent: Tensor | None = None,
        c: Tensor | None = None,
        y: Tensor | None = None,
        alpha: Tensor | None = None,
    ) -> DiscriminatorOutput:
        """Map images to logits, with the tangent alongside. noise, alpha: None, as there is nothing to use them."""
        h, t = self.trunk(x, tangent, alpha)
        with torch.autocast(x.device.type, enabled=False):  # logits of three digits would be too coarse for losses
            return self.head(h.to(x.dtype), None if t is None else t.to(x.dtype), noise, c, y)

    def head(
        self, h: Tensor, t: Tensor | None, noise: Tensor | None, c: Tensor | None, y: Tensor | None
    ) -> DiscriminatorOutput:
        """Judge features [B, 256] and their tangent."""
        assert noise is None
        logits, slope = self.judge(h, t, c, y)
        return DiscriminatorOutput(logits, None, slope)

    def trunk(self, x: Tensor, tangent: Tensor | None, alpha: Tensor | None) -> Pair:
        """Map an image to features [B, 256]: piecewise linear (models/recorded_pass.py)."""
        assert alpha is None
        return self.layers(x, tangent)

    def first_blocks(self, count: int) -> Sequence[nn.Module]:
        """Return the convolutions that see the image first, at most 4."""
        return [layer for layer in self.layers if isinstance(layer, Conv2d)][:count]
