"""Tangents against torch.func.jvp, and the parameter counts of the paper's tables."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models import VAE, CodeEncoder, ConvDiscriminator, ConvGenerator
from models.layers import Chain, Conv2d, Flatten, LeakyReLU, Linear


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def conv(fin: int, fout: int, kernel: int = 4) -> int:
    return fin * fout * kernel * kernel + fout


def linear(fin: int, fout: int) -> int:
    return fin * fout + fout


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("c_dim", [10, 20])
def test_table_a2_parameter_counts(channels: int, c_dim: int) -> None:
    vae = VAE(channels, c_dim)
    encoder = (
        conv(channels, 32) + conv(32, 32) + conv(32, 64) + conv(64, 64) + linear(1024, 256) + linear(256, 2 * c_dim)
    )
    decoder = linear(c_dim, 256) + linear(256, 1024) + conv(64, 64) + conv(64, 32) + conv(32, 32) + conv(32, channels)
    assert count(vae.encoder) == encoder
    assert count(vae.decoder) == decoder


@pytest.mark.parametrize("channels", [1, 3])
def test_table_a3_parameter_counts(channels: int) -> None:
    trunk = conv(channels, 32) + conv(32, 32) + conv(32, 64) + conv(64, 64)
    assert count(ConvDiscriminator(channels)) == trunk + linear(1024, 256) + linear(256, 1)
    decoder = linear(10, 256) + linear(256, 1024) + conv(64, 64) + conv(64, 32) + conv(32, 32) + conv(32, channels)
    assert count(ConvGenerator(10, channels)) == decoder


def test_the_normal_init_is_the_papers() -> None:
    torch.manual_seed(0)
    vae = VAE(1, 10)
    weights = torch.cat([p.flatten() for name, p in vae.named_parameters() if name.endswith("weight")])
    assert abs(float(weights.std()) - 0.02) < 2e-4
    assert all(float(p.abs().max()) == 0 for name, p in vae.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Linear(7, 5), (3, 7)),
        (Conv2d(3, 4, 4, 2, 1), (2, 3, 8, 8)),
        (LeakyReLU(0.2), (4, 9)),
        (LeakyReLU(0), (4, 9)),
        (Flatten(), (2, 3, 4)),
        (Chain(Conv2d(2, 3, 3), LeakyReLU(0.2), Flatten(), Linear(48, 2)), (2, 2, 6, 6)),
    ],
)
def test_tangents_equal_forward_mode(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = layer.double()
    x, t = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    expected, along = torch.func.jvp(lambda v: layer(v)[0], (x,), (t,))
    y, tangent = layer(x, t)
    assert torch.equal(y, layer(x)[0])
    assert layer(x)[1] is None
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(tangent, along, rtol=0, atol=1e-12)


def test_the_encoder_pools_larger_images_by_box_means() -> None:
    torch.manual_seed(0)
    vae = VAE(3, 4).double()
    small = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    noise = torch.rand(2, 3, 64, 4, 64, 4, dtype=torch.float64)
    noise = noise - noise.mean((3, 5), keepdim=True)  # every 4x4 box keeps its mean
    large = (small[:, :, :, None, :, None] + 0.1 * noise).reshape(2, 3, 256, 256)
    for image in (small, large):
        for found, expected in zip(CodeEncoder(vae.encoder)(image * 2 - 1), vae.encoder(small), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
