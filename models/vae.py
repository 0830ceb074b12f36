"""The beta-VAE of Table A.2 at 64 px, FactorVAE's critic, and what lets the encoder q see images of any size."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from .convnet import conv_decoder

Init = Literal["normal", "default"]


class Encoder(nn.Module):
    """q(c|x). x: [B, channels, 64, 64] in [0, 1] -> (mean, logvar), each [B, c_dim]."""

    def __init__(self, channels: int, c_dim: int) -> None:
        super().__init__()
        self.channels, self.c_dim = channels, c_dim
        layers: list[nn.Module] = []
        for fin, fout in ((channels, 32), (32, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(fin, fout, 4, 2, 1), nn.ReLU()]
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 256), nn.ReLU(), nn.Linear(256, 2 * c_dim)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the posterior."""
        mean, logvar = self.layers(x).chunk(2, dim=1)
        return mean, logvar


class VaeOutput(NamedTuple):
    """What the VAE returns: logits [B, C, 64, 64] of the image; c, the decoded posterior sample, and mean and log
    variance of the posterior, each [B, c_dim].
    """

    logits: Tensor
    c: Tensor
    mean: Tensor
    logvar: Tensor


class VAE(nn.Module):
    """Encoder and decoder of Table A.2.

    init: "normal" draws weights from N(0, 0.02) with zero biases (the paper's); "default" keeps PyTorch's, which leaves
    the posterior-collapse plateau sooner.
    """

    def __init__(self, channels: int, c_dim: int, init: Init = "normal") -> None:
        super().__init__()
        self.encoder = Encoder(channels, c_dim)
        self.decoder = conv_decoder(c_dim, channels)
        if init == "normal":
            self.apply(_init_normal)

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.encoder.channels

    @property
    def c_dim(self) -> int:
        """Dimensions of the code."""
        return self.encoder.c_dim

    def forward(self, x: Tensor, eps: Tensor) -> VaeOutput:
        """Encode, sample and decode. x: [B, C, 64, 64] in [0, 1]; eps: [B, c_dim] ~ N(0, 1)."""
        mean, logvar = self._posterior(x)
        c = sample_posterior(mean, logvar, eps)
        return VaeOutput(self.decoder(c).to(x.dtype), c, mean, logvar)

    def draw(self, x: Tensor, eps: Tensor) -> Tensor:
        """Draw a posterior sample of each image: x, eps as in `forward` -> c [B, c_dim]."""
        return sample_posterior(*self._posterior(x), eps)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance in the images' type: under autocast they come in bf16."""
        mean, logvar = self.encoder(x)
        return mean.to(x.dtype), logvar.to(x.dtype)

    def decode(self, c: Tensor) -> Tensor:
        """Decode codes c [B, c_dim] to images [B, C, 64, 64] in [0, 1]."""
        return self.decoder(c).sigmoid()


class Critic(nn.Module):
    """FactorVAE's critic (Table A.2, "Discriminator"): does a code come from q(c) or from the product of its marginals?

    c: [B, c_dim] -> logits [B, 2] of (q(c), product of marginals). init: as of the VAE.
    """

    def __init__(self, c_dim: int, init: Init = "normal") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fin in (c_dim, *[1000] * 5):
            layers += [nn.Linear(fin, 1000), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(1000, 2))
        if init == "normal":
            self.apply(_init_normal)

    def forward(self, c: Tensor) -> Tensor:
        """Return the two logits of each code."""
        return self.layers(c)


def _init_normal(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def sample_posterior(mean: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """Return c = mu + sigma * eps, all [B, c_dim]."""
    return mean + (logvar / 2).exp() * eps


class CodeEncoder(nn.Module):
    """Applies an encoder that takes [0, 1] at 64 px to images in [-1, 1] of any size: (x + 1) / 2, then box means.

    Images below 64 px are enlarged (bilinear). encoder: any module that maps [B, C, 64, 64] to (mean, logvar).
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: [B, C, R, R] in [-1, 1], R = 4 * 2^k -> mean and log variance, each [B, c_dim]."""
        x = (x + 1) / 2
        if x.shape[-1] > 64:
            # adaptive pooling gives the same numbers, but its CUDA backward is not deterministic
            x = F.avg_pool2d(x, x.shape[-1] // 64)
        elif x.shape[-1] < 64:
            x = F.interpolate(x, (64, 64), mode="bilinear")
        mean, logvar = self.encoder(x)
        return mean, logvar


def freeze(module: nn.Module) -> nn.Module:
    """Put a network in eval mode and stop its parameters' gradients; gradients still pass through it."""
    return module.eval().requires_grad_(False)
