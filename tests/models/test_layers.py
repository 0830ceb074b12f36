"""Tangents against torch.func.jvp, R1 of pairs against double backward, parameter counts of the paper's tables."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from models import VAE, CodeEncoder, ConvDiscriminator, ConvGenerator, Critic
from models.discriminator_output import CodeProjection
from models.layers import Chain, Conv2d, Flatten, Halve, LeakyReLU, Linear
from trainer.steps import losses


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


@pytest.mark.parametrize("c_dim", [10, 20])
def test_parameter_counts_of_the_two_networks_that_see_codes(c_dim: int) -> None:
    assert count(Critic(c_dim)) == linear(c_dim, 1000) + 5 * linear(1000, 1000) + linear(1000, 2)
    assert count(ConvDiscriminator(3, c_dim)) == count(ConvDiscriminator(3)) + 2 * c_dim * 256


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


def pairs(channels: int, c_dim: int) -> tuple[ConvDiscriminator, Tensor, Tensor]:
    """cGAN's D with pairs (x, c) for it."""
    torch.manual_seed(0)
    D = ConvDiscriminator(channels, c_dim).double()
    x = torch.rand(4, channels, 64, 64, dtype=torch.float64) * 2 - 1
    return D, x, torch.randn(4, c_dim, dtype=torch.float64)


@pytest.mark.parametrize(("channels", "c_dim"), [(1, 10), (3, 2)])
def test_the_tangent_of_a_discriminator_of_pairs_equals_forward_mode(channels: int, c_dim: int) -> None:
    D, x, c = pairs(channels, c_dim)
    t = torch.randn_like(x)
    expected, along = torch.func.jvp(lambda v: D(v, c=c).logits, (x,), (t,))
    found = D(x, tangent=t, c=c)
    torch.testing.assert_close(found.logits, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.tangent, along, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("channels", "c_dim"), [(1, 10), (3, 2)])
def test_r1_of_pairs_by_the_tangent_equals_double_backward(channels: int, c_dim: int) -> None:
    D, x, c = pairs(channels, c_dim)
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(D(leaf, c=c).logits.sum(), leaf, create_graph=True)
    expected = g.square().sum((1, 2, 3)).mean()
    gradients = torch.autograd.grad(expected, list(D.parameters()), allow_unused=True, materialize_grads=True)
    D.requires_grad_(False)
    image_gradient = losses.image_gradient(D, x, c=c)
    D.requires_grad_(True)
    penalty = losses.gradient_penalty(D(x, tangent=image_gradient, c=c).tangent)
    penalty.backward()
    torch.testing.assert_close(penalty.detach(), expected.detach(), rtol=1e-10, atol=0)
    assert float(D.judge.projection.embed.weight.grad.norm()) > 0
    for (name, parameter), gradient in zip(D.named_parameters(), gradients, strict=True):
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert float((found - gradient).norm()) <= 1e-10 * float(gradient.norm()), name


def test_the_projection_can_be_the_log_density_of_a_gaussian_encoder() -> None:
    """log q(c|x) - log q(0|x) = c m / v - c^2 / 2v, from features that are at least 0, as those after a ReLU are."""
    torch.manual_seed(0)
    c, m, logvar = torch.randn(3, 50, 4, dtype=torch.float64)
    v, eye = logvar.exp(), torch.eye(4, dtype=torch.float64)
    features = torch.cat(((m / v).relu(), (-m / v).relu(), 1 / (2 * v), torch.rand_like(c)), 1)
    projection = CodeProjection(features.shape[1], 4).double()
    rows = [torch.cat(pair, 1) for pair in ((eye, 0 * eye), (-eye, 0 * eye), (0 * eye, -eye), (0 * eye, 0 * eye))]
    projection.embed.weight.data = torch.cat(rows) / projection.scale
    q = Normal(m, v.sqrt())
    expected = (q.log_prob(c) - q.log_prob(torch.zeros_like(c))).sum(1, keepdim=True)
    torch.testing.assert_close(projection(features, None, c)[0], expected, rtol=0, atol=1e-10)


def test_halving_in_bf16_does_not_lengthen_the_gradient() -> None:
    """1 / 9 in bf16 is 0.2 % too large, once for each level that the gradient comes through."""
    random = torch.Generator().manual_seed(0)
    x, upstream = (torch.randn(4, 8, size, size, generator=random) for size in (128, 8))
    norms = []
    for dtype in (torch.float32, torch.bfloat16):
        leaf = x.clone().to(dtype).requires_grad_()
        y: Tensor = leaf
        for _ in range(4):
            y, _ = Halve()(y)
        y.backward(upstream.to(dtype))
        assert leaf.grad is not None
        norms.append(leaf.grad.double().norm())
    assert float(norms[1] / norms[0]) == pytest.approx(1, abs=2e-3)
