"""Generator and discriminator of Tables A.4 to A.7: ResNets of any resolution that can grow.

Where a table and the authors' code differ, this is the code's form (GAN_stability and VGAN share it):
  the image convolutions are 3x3 (the tables print "4x4 conv 3"); D has a last ResBlock at 4x4 (the tables omit it);
  average pooling is 3x3 with stride 2; Table A.5's G is nf 128, its D nf 64; Table A.7 lists for G the widths that
  enter the blocks, where the others list those that leave them, and leaves out D's first convolution.
No normalisation anywhere; weights start as PyTorch's do.

Growth: with a start_resolution all blocks exist from the start, and each resolution from there on has image layers of
its own. While r is the active resolution, G stops after its ResBlock at r px and D begins there. A fade into r blends
what the networks would do at r / 2 with what they do at r, alpha rising from 0 to 1: in G the images, in D the features
that enter its ResBlock at r / 2 px.

Growth with skips (not the authors'): what is new adds to what was there, and is 0 until it is trained, so that growing
changes neither a picture nor a logit. G's image is tanh of the sum of what the image layers at all resolutions give,
each enlarged (StyleGAN2's output skips); D adds to what leaves a ResBlock what the image layer below makes of the
halved image. In a fade the new share has the weight alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .bottleneck import Bottleneck
from .discriminator_output import DiscriminatorOutput, LogitHead
from .layers import Conv2d, ConvOfEnlarged, Flatten, Halve, LeakyReLU, Pair

SLOPE = 0.2
MIN_RESOLUTION = 4


def block_resolutions(resolution: int) -> list[int]:
    """Return the resolutions of the ResBlocks: 4, 8, ..., resolution. Raises ValueError where it is not 4 * 2^k."""
    levels = math.log2(resolution / MIN_RESOLUTION) if resolution > MIN_RESOLUTION else 0.0
    if levels < 1 or levels % 1:
        raise ValueError(f"resolution {resolution} is not 4 * 2^k; choose 8, 16, 32, 64, 128, 256, 512 or 1024")
    return [MIN_RESOLUTION * 2**k for k in range(int(levels) + 1)]


def width(resolution: int, at: int, nf: int, nf_max: int, nf_min: int = 1) -> int:
    """Return the channels that enter G's ResBlock, and leave D's, at `at` px.

    nf * resolution / at, from nf_min (not the authors'; for small networks of many resolutions) to nf_max.
    """
    return min(max(nf * resolution // at, nf_min), nf_max)


Resample = Literal["none", "up", "down"]
Layer = Callable[[Tensor], Tensor]


class ResBlock(nn.Module):
    """shortcut(x) + 0.1 * conv3x3(lrelu(conv3x3(lrelu(x)))), with hidden width min(fin, fout).

    x: [B, fin, r, r]. The shortcut is the identity, or a 1x1 convolution without bias where the widths differ.
    resample: "up" doubles the side of x first (G; no tangent), "down" halves that of the result (D). Activation and
    shortcut give the same before and after resampling, and are computed at the smaller side.
    checkpointed: the block keeps its input alone for the backward pass, and is computed again there.
    """

    checkpointed = False

    def __init__(self, fin: int, fout: int, resample: Resample = "none") -> None:
        super().__init__()
        hidden = min(fin, fout)
        self.resample, self.activation, self.halve = resample, LeakyReLU(SLOPE), Halve()
        self.inner_activation = LeakyReLU(SLOPE, in_place=True)  # its input is the block's, and nothing else keeps it
        self.conv_0 = ConvOfEnlarged(fin, hidden) if resample == "up" else Conv2d(fin, hidden, 3, padding=1)
        self.conv_1 = Conv2d(hidden, fout, 3, padding=1)
        self.shortcut = Conv2d(fin, fout, 1, bias=False) if fin != fout else None

    def forward(self, x: Tensor, t: Tensor | None = None, then: Layer | None = None) -> Pair:
        """Apply the block to x and its tangent t.

        then: a layer for the result, under the block's checkpoint, so that G's last image layer keeps nothing either;
        the tangent ends there.
        """

        def block_and_layer(x: Tensor, t: Tensor | None) -> Pair:
            x, t = self._block(x, t)
            return (x, t) if then is None else (then(x), None)

        if not self.checkpointed:
            return block_and_layer(x, t)
        # Nothing in a block is random, so no state of random numbers needs to be kept.
        return checkpoint(block_and_layer, x, t, use_reentrant=False, preserve_rng_state=False)

    def _block(self, x: Tensor, t: Tensor | None) -> Pair:
        # The shortcut comes first: its backward pass then comes last, and until then holds the smaller side only.
        side, along = self.halve(x, t) if self.resample == "down" else (x, t)
        if self.shortcut is not None:
            side, along = self.shortcut(side, along)
        x, t = self.activation(x, t)
        x, t = (self.conv_0(x), None) if isinstance(self.conv_0, ConvOfEnlarged) else self.conv_0(x, t)
        x, t = self.inner_activation(x, t)  # by rebinding x: nothing else may hold its input during conv_1
        x, t = self.conv_1(x, t)
        if self.resample == "down":
            x, t = self.halve(x, t)
        return _sum(_enlarge(side) if self.resample == "up" else side, along, x, t)


def _sum(x: Tensor, t: Tensor | None, h: Tensor, along: Tensor | None) -> Pair:
    """Return x + 0.1 h, and the same of their tangents, in the memory of h, which nothing outside the block keeps."""
    return h.mul_(0.1).add_(x), None if t is None or along is None else along.mul_(0.1).add_(t)


def set_checkpointing(network: nn.Module, from_resolution: int | None) -> None:
    """Checkpoint the ResBlocks of a Generator or Discriminator from a resolution on (px); None: not one of them."""
    for name, block in network.named_modules():
        if isinstance(block, ResBlock):
            block.checkpointed = from_resolution is not None and int(name.rpartition(".")[2]) >= from_resolution


class ToRGB(nn.Module):
    """Features [B, fin, r, r] -> [B, channels, r, r], whose tanh is an image: lrelu, conv 3x3."""

    def __init__(self, fin: int, channels: int) -> None:
        super().__init__()
        self.conv, self.activation = nn.Conv2d(fin, channels, 3, padding=1), LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Map features to what tanh makes an image of."""
        return self.conv(self.activation(x)[0])


class Generator(nn.Module):
    """G(z) of Tables A.4 to A.7.

    It maps z [B, z_dim] = [s, c], with labels [s, y, c], to images [B, channels, r, r] in (-1, 1). Raises ValueError
    where resolution is not 4 * 2^k.
    """

    def __init__(
        self,
        resolution: int,
        nf: int,
        nf_max: int,
        z_dim: int,
        channels: int = 3,
        start_resolution: int | None = None,
        skips: bool = False,
        nf_min: int = 1,
    ) -> None:
        super().__init__()
        self.resolution, self.start, self.skips = resolution, start_resolution or resolution, skips
        self.block_resolutions = sides = block_resolutions(resolution)
        inner = {
            r: width(resolution, min(2 * r, resolution), nf, nf_max, nf_min) for r in sides
        }  # leaves the block at r
        outer = {r: width(resolution, r, nf, nf_max, nf_min) for r in sides}  # enters block r
        self.first = (outer[MIN_RESOLUTION], MIN_RESOLUTION, MIN_RESOLUTION)
        self.fc = nn.Linear(z_dim, math.prod(self.first))
        up: dict[int, Resample] = {r: "up" if r > MIN_RESOLUTION else "none" for r in sides}
        self.blocks = nn.ModuleDict({str(r): ResBlock(outer[r], inner[r], up[r]) for r in sides})
        with_images = [r for r in sides if r >= self.start]
        self.to_rgb = nn.ModuleDict({str(r): ToRGB(inner[r], channels) for r in reversed(with_images)})
        if skips:
            for r in (r for r in with_images if r > self.start):
                _zero_(self.to_rgb[str(r)].parameters())

    def forward(self, z: Tensor, resolution: int | None = None, alpha: Tensor | None = None) -> Tensor:
        """Generate images. resolution: the active one in px, None is the full one.

        alpha: 0-dim tensor in [0, 1], the fade from half that resolution into it; None is no fade.
        """
        active = resolution or self.resolution
        x = self.fc(z).unflatten(1, self.first)
        below: Tensor | None = None
        for r in (r for r in self.block_resolutions if r < active):
            x, _ = self.blocks[str(r)](x)
            if self.skips and r >= self.start:
                below = _added(below, self.to_rgb[str(r)](x).to(z.dtype))
            elif not self.skips and alpha is not None and 2 * r == active:
                below = self.to_rgb[str(r)](x).to(z.dtype)
        image, _ = self.blocks[str(active)](x, then=self.to_rgb[str(active)])
        image = image.to(z.dtype)  # under autocast it comes in bf16
        if self.skips:
            return _added(below, image if alpha is None else alpha * image).tanh()
        image = image.tanh()
        return image if below is None or alpha is None else torch.lerp(_enlarge(below.tanh()), image, alpha)


def _added(below: Tensor | None, x: Tensor) -> Tensor:
    """Add what half the resolution gave, enlarged; None is nothing."""
    return x if below is None else _enlarge(below) + x


def _enlarge(x: Tensor) -> Tensor:
    """Double the side of x, nearest."""
    return F.interpolate(x, scale_factor=2)


def _zero_(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        nn.init.zeros_(parameter)


class Discriminator(nn.Module):
    """D(x) of Tables A.4 to A.7.

    It maps images [B, channels, r, r] in [-1, 1], of any resolution r that has image layers, to logits. With c_dim > 0
    it is cGAN's, and judges pairs of image and code; with y_dim > 0 pairs of image and label vector. Raises ValueError
    where resolution is not 4 * 2^k.
    """

    def __init__(
        self,
        resolution: int,
        nf: int,
        nf_max: int,
        channels: int = 3,
        bottleneck: bool = False,
        c_dim: int = 0,
        start_resolution: int | None = None,
        skips: bool = False,
        nf_min: int = 1,
        y_dim: int = 0,
    ) -> None:
        super().__init__()
        self.resolution, self.start, self.skips = resolution, start_resolution or resolution, skips
        self.block_resolutions = sides = block_resolutions(resolution)[::-1]
        inner = {
            r: width(resolution, min(2 * r, resolution), nf, nf_max, nf_min) for r in sides
        }  # enters the block at r
        outer = {r: width(resolution, r, nf, nf_max, nf_min) for r in sides}  # leaves block r
        with_images = [r for r in sides if r >= self.start]
        self.from_rgb = nn.ModuleDict({str(r): Conv2d(channels, inner[r], 3, padding=1) for r in with_images})
        down: dict[int, Resample] = {r: "down" if r > MIN_RESOLUTION else "none" for r in sides}
        self.blocks = nn.ModuleDict({str(r): ResBlock(inner[r], outer[r], down[r]) for r in sides})
        trunk = outer[MIN_RESOLUTION]
        self.bottleneck = Bottleneck(trunk) if bottleneck else None
        self.noise_shape = (trunk, MIN_RESOLUTION, MIN_RESOLUTION) if bottleneck else (0,)
        self.activation, self.flatten = LeakyReLU(SLOPE), Flatten()
        self.judge = LogitHead(trunk * MIN_RESOLUTION**2, c_dim, y_dim)  # named so in checkpoints
        if skips:
            self._silence()

    def _silence(self) -> None:
        """Make what is new at each resolution above the first one give 0, whatever the image is."""
        for r in (r for r in self.block_resolutions if r > self.start):
            _zero_(self.from_rgb[str(r)].parameters())
            _zero_(p for name, p in self.blocks[str(r)].named_parameters() if name.endswith("bias"))

    def forward(
        self,
        x: Tensor,
        noise: Tensor | None = None,
        tangent: Tensor | None = None,
        c: Tensor | None = None,
        y: Tensor | None = None,
        alpha: Tensor | None = None,
    ) -> DiscriminatorOutput:
        """Judge images; their side is the active resolution.

        noise: [B, *noise_shape] ~ N(0, 1) for the bottleneck, None takes its mean. tangent: None or of x's shape.
        c: [B, c_dim] where c_dim > 0, y: [B, y_dim] where y_dim > 0. alpha: as in G.
        """
        h, t = self.trunk(x, tangent, alpha)
        with torch.autocast(x.device.type, enabled=False):  # exp and the sum over the whole map want full precision
            return self.head(h.to(x.dtype), None if t is None else t.to(x.dtype), noise, c, y)

    def head(
        self, h: Tensor, t: Tensor | None, noise: Tensor | None, c: Tensor | None, y: Tensor | None
    ) -> DiscriminatorOutput:
        """Judge features [B, channels, 4, 4] and their tangent."""
        kl = None
        if self.bottleneck is not None:
            (h, t), kl = self.bottleneck(h, t, noise)
        logits, slope = self.judge(*self.flatten(*self.activation(h, t)), c, y)
        return DiscriminatorOutput(logits, kl, slope)

    def trunk(self, x: Tensor, tangent: Tensor | None, alpha: Tensor | None) -> Pair:
        """Map an image to features [B, channels, 4, 4]: piecewise linear (models/recorded_pass.py)."""
        active = x.shape[-1]
        h, t = self.from_rgb[str(active)](x, tangent)
        for r in (r for r in self.block_resolutions if r <= active):
            h, t = self.blocks[str(r)](h, t)
            fade = alpha if r == active else None
            if fade is not None or (self.skips and r > self.start):
                x, tangent = F.avg_pool2d(x, 2), None if tangent is None else F.avg_pool2d(tangent, 2)
                h, t = self._joined(self.from_rgb[str(r // 2)](x, tangent), (h, t), fade)
        return h, t

    def first_blocks(self, count: int) -> Sequence[nn.Module]:
        """Return the ResBlocks that see an image of full resolution first, at most all, with its image layer."""
        if not count:
            return []
        sides = self.block_resolutions[:count]
        return [self.from_rgb[str(sides[0])], *(self.blocks[str(r)] for r in sides)]

    def _joined(self, low: Pair, high: Pair, alpha: Tensor | None) -> Pair:
        """Join what comes from the halved image and from the block above: their sum, or a blend. alpha: of a fade."""
        if alpha is None:
            return _combined(torch.add, low, high)
        alpha = alpha.to(high[0].dtype)
        return _combined(lambda a, b: a + alpha * b if self.skips else torch.lerp(a, b, alpha), low, high)


def _combined(rule: Callable[[Tensor, Tensor], Tensor], a: Pair, b: Pair) -> Pair:
    """Apply a linear rule to two tensors and to their tangents."""
    return rule(a[0], b[0]), None if a[1] is None or b[1] is None else rule(a[1], b[1])
