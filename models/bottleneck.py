"""VGAN's variational discriminator bottleneck (Peng et al., 2019; Table A.7: "1x1 conv 2x512, Sampling 512")."""

from __future__ import annotations

from torch import Tensor, nn

from .layers import Conv2d, Pair


class Bottleneck(nn.Module):
    """z = mean + exp(log_std) * noise at every location of the trunk, with its KL from N(0, I).

    The two heads are 1x1 convolutions; the second gives the logarithm of the standard deviation, not of the variance,
    and is not clamped (the authors' form).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = Conv2d(channels, channels, 1)
        self.log_std = Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, t: Tensor | None = None, noise: Tensor | None = None) -> tuple[Pair, Tensor]:
        """Return ((z, its tangent), KL [B] in nats). x, t, noise: [B, channels, h, w]; without noise z is the mean.

        The KL is summed over channels and averaged over locations.
        """
        mean, t_mean = self.mean(x, t)
        log_std, t_log_std = self.log_std(x, t)
        std = log_std.exp()
        kl = ((mean.square() + std.square() - 1) / 2 - log_std).sum(1).mean((1, 2))
        if noise is None:
            return (mean, t_mean), kl
        spread = std * noise
        return (mean + spread, None if t_mean is None or t_log_std is None else t_mean + spread * t_log_std), kl
