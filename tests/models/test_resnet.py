"""The networks of Tables A.4 to A.7: counts, a plain re-statement, tangents, the bottleneck, growth."""

from __future__ import annotations

import math
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from models import Discriminator, Generator
from models.resnet import ResBlock, block_resolutions
from trainer.steps import losses

Weights = dict[str, Tensor]
N = TypeVar("N", bound=nn.Module)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("resolution", "nf", "bottleneck", "g", "d"),
    [
        (64, 64, False, 9_559_747, 7_299_265),
        (128, 64, False, 14_279_363, 12_018_881),
        (256, 64, False, 18_998_979, 16_738_497),
        (1024, 16, True, 18_965_683, 17_230_513),
    ],
)
def test_the_papers_parameter_counts(resolution: int, nf: int, bottleneck: bool, g: int, d: int) -> None:
    with torch.device("meta"):
        assert count(Generator(resolution, nf, 512, 276)) == g
        assert count(Discriminator(resolution, nf, 512, bottleneck=bottleneck)) == d


def test_table_a5s_generator_is_twice_as_wide() -> None:
    with torch.device("meta"):
        assert count(Generator(128, 128, 512, 276)) == 19_103_107


def test_the_widths_at_1024_px() -> None:
    with torch.device("meta"):
        G = Generator(1024, 16, 512, 276)
    entering = [block.conv_0.in_channels for block in G.blocks.values() if isinstance(block, ResBlock)]
    assert entering == [512, 512, 512, 512, 256, 128, 64, 32, 16]


def test_no_block_is_narrower_than_nf_min() -> None:
    """A small network that grows to 1024 px: its widths up to 64 px are those of one of 64 px with nf 16."""
    with torch.device("meta"):
        G, D = Generator(1024, 1, 128, 5, nf_min=8), Discriminator(1024, 1, 128, nf_min=8)
        small = Generator(64, 16, 128, 5)
    entering = [block.conv_0.in_channels for block in G.blocks.values() if isinstance(block, ResBlock)]
    assert entering == [128, 128, 64, 32, 16, 8, 8, 8, 8]
    leaving = [block.conv_1.out_channels for block in D.blocks.values() if isinstance(block, ResBlock)]
    assert leaving == entering[::-1]
    assert entering[:5] == [block.conv_0.in_channels for block in small.blocks.values() if isinstance(block, ResBlock)]


def plain_block(w: Weights, name: str, x: Tensor) -> Tensor:
    """A ResBlock written out."""
    h = F.conv2d(F.leaky_relu(x, 0.2), w[f"{name}.conv_0.weight"], w[f"{name}.conv_0.bias"], padding=1)
    h = F.conv2d(F.leaky_relu(h, 0.2), w[f"{name}.conv_1.weight"], w[f"{name}.conv_1.bias"], padding=1)
    short = F.conv2d(x, w[f"{name}.shortcut.weight"]) if f"{name}.shortcut.weight" in w else x
    return short + 0.1 * h


def plain_generator(w: Weights, z: Tensor) -> Tensor:
    """16 px, written out in the official code's order."""
    x = F.linear(z, w["fc.weight"], w["fc.bias"]).reshape(len(z), -1, 4, 4)
    x = plain_block(w, "blocks.4", x).repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = plain_block(w, "blocks.8", x).repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = plain_block(w, "blocks.16", x)
    return torch.tanh(F.conv2d(F.leaky_relu(x, 0.2), w["to_rgb.16.conv.weight"], w["to_rgb.16.conv.bias"], padding=1))


def plain_trunk(w: Weights, x: Tensor) -> Tensor:
    x = F.conv2d(x, w["from_rgb.16.weight"], w["from_rgb.16.bias"], padding=1)
    for r in (16, 8, 4):
        x = plain_block(w, f"blocks.{r}", x)
        if r > 4:  # nine values, zeros outside the image counted
            x = F.conv2d(x, torch.full((x.shape[1], 1, 3, 3), 1 / 9).to(x), stride=2, padding=1, groups=x.shape[1])
    return x


def test_the_generator_is_what_the_table_says() -> None:
    G = Generator(16, 3, 8, 5).double()
    z = doubles(2, 5)
    torch.testing.assert_close(G(z), plain_generator(G.state_dict(), z))


def test_the_names_of_a_checkpoint_stay() -> None:
    pair = ["weight", "bias"]
    block = [f"conv_{i}.{kind}" for i in (0, 1) for kind in pair]
    first = [f"blocks.4.{name}" for name in [*block, "shortcut.weight"]]
    last = [f"blocks.8.{name}" for name in block]
    g = ["fc.weight", "fc.bias", *first, *last, *(f"to_rgb.8.conv.{kind}" for kind in pair)]
    assert list(Generator(8, 2, 8, 5).state_dict()) == g
    d = ["from_rgb.8.weight", "from_rgb.8.bias", *last, *first]
    d += [f"bottleneck.{head}.{kind}" for head in ("mean", "log_std") for kind in pair]
    d += [f"judge.linear.{kind}" for kind in pair]
    assert list(Discriminator(8, 2, 8, bottleneck=True).state_dict()) == d


@pytest.mark.parametrize("noisy", [False, True])
def test_the_discriminator_and_its_bottleneck_are_what_the_table_says(noisy: bool) -> None:
    D = Discriminator(16, 3, 8, bottleneck=True).double()
    w, x = D.state_dict(), doubles(2, 3, 16, 16)
    noise = doubles(2, *D.noise_shape) if noisy else None
    trunk = plain_trunk(w, x)
    mean, log_std = (
        F.conv2d(trunk, w[f"bottleneck.{k}.weight"], w[f"bottleneck.{k}.bias"]) for k in ("mean", "log_std")
    )
    z = mean if noise is None else mean + torch.exp(log_std) * noise
    logits = F.linear(F.leaky_relu(z, 0.2).reshape(2, -1), w["judge.linear.weight"], w["judge.linear.bias"])
    found = D(x, noise=noise)
    torch.testing.assert_close(found.logits, logits[:, 0])
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    kl = kl_divergence(Normal(mean, log_std.exp()), prior).sum(1).mean((1, 2))
    torch.testing.assert_close(found.kl, kl)
    assert found.tangent is None


def test_without_a_bottleneck_there_is_no_kl_and_no_noise() -> None:
    D = Discriminator(16, 3, 8).double()
    w, x = D.state_dict(), doubles(2, 3, 16, 16)
    features = F.leaky_relu(plain_trunk(w, x), 0.2).reshape(2, -1)
    found = D(x)
    torch.testing.assert_close(found.logits, F.linear(features, w["judge.linear.weight"], w["judge.linear.bias"])[:, 0])
    assert found.kl is None
    assert D.noise_shape == (0,)


CASES = [  # bottleneck, size of the code, alpha, skips
    (False, 0, None, False),
    (True, 0, None, False),
    (True, 3, None, False),
    (True, 0, 0.3, False),
    (False, 2, 0.7, False),
    (True, 3, None, True),
    (False, 0, 0.3, True),
]


def trained(network: N) -> N:
    """As if trained: growth with skips begins with zeros."""
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.3)
    return network


@pytest.mark.parametrize(("bottleneck", "c_dim", "alpha", "skips"), CASES)
def test_the_tangent_equals_forward_mode(bottleneck: bool, c_dim: int, alpha: float | None, skips: bool) -> None:
    D = trained(Discriminator(16, 3, 8, 3, bottleneck, c_dim, 4, skips)).double()
    x, t = doubles(3, 3, 16, 16), doubles(3, 3, 16, 16)
    more = {
        "noise": doubles(3, *D.noise_shape) if bottleneck else None,
        "c": doubles(3, c_dim) if c_dim else None,
        "alpha": None if alpha is None else torch.tensor(alpha, dtype=torch.float64),
    }
    _, along = torch.func.jvp(lambda v: D(v, **more).logits, (x,), (t,))
    torch.testing.assert_close(D(x, tangent=t, **more).tangent, along, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("bottleneck", "c_dim", "alpha", "skips"), CASES)
def test_r1_is_exact_through_bottleneck_code_and_fade(
    bottleneck: bool, c_dim: int, alpha: float | None, skips: bool
) -> None:
    """Against double backward with the same noise, parameter by parameter."""
    D = trained(Discriminator(16, 4, 16, 3, bottleneck, c_dim, 4, skips)).double()
    x = doubles(3, 3, 16, 16)
    more = {
        "noise": doubles(3, *D.noise_shape) if bottleneck else None,
        "c": doubles(3, c_dim) if c_dim else None,
        "alpha": None if alpha is None else torch.tensor(alpha, dtype=torch.float64),
    }
    real = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(D(real, **more).logits.sum(), real, create_graph=True)
    penalty = g.square().flatten(1).sum(1).mean()
    expected = torch.autograd.grad(penalty, list(D.parameters()), allow_unused=True)
    D.requires_grad_(False)
    held = losses.image_gradient(D, x, **more)
    D.requires_grad_(True)
    found = losses.gradient_penalty(D(x, tangent=held, **more).tangent)
    found.backward()
    assert abs(float(found.detach() / penalty.detach()) - 1) < 1e-10
    for (name, p), e in zip(D.named_parameters(), expected, strict=True):
        gap = (torch.zeros_like(p) if p.grad is None else p.grad) - (torch.zeros_like(p) if e is None else e)
        assert float(gap.norm()) <= 1e-10 * max(0.0 if e is None else float(e.norm()), 1e-8), name


def test_growth_adds_image_layers_below_full_resolution_and_nothing_else() -> None:
    for make in (
        lambda s: Generator(32, 3, 8, 5, start_resolution=s),
        lambda s: Discriminator(32, 3, 8, start_resolution=s),
    ):
        whole, growing = make(None), make(8)
        extra = set(growing.state_dict()) - set(whole.state_dict())
        assert {name.split(".")[0] for name in extra} == {"to_rgb" if isinstance(whole, Generator) else "from_rgb"}
        assert {name.split(".")[1] for name in extra} == {"8", "16"}
        assert set(whole.state_dict()) <= set(growing.state_dict())


def test_a_grown_network_is_the_papers() -> None:
    """With the same weights, at full resolution and without a fade, the auxiliary layers take no part."""
    for whole, growing, x in (
        (Generator(16, 3, 8, 5), Generator(16, 3, 8, 5, start_resolution=4), torch.randn(2, 5)),
        (Discriminator(16, 3, 8), Discriminator(16, 3, 8, start_resolution=4), torch.randn(2, 3, 16, 16)),
    ):
        growing.load_state_dict(whole.state_dict(), strict=False)
        a, b = (n(x) if isinstance(n, Generator) else n(x).logits for n in (whole, growing))
        assert torch.equal(a, b)


@pytest.mark.parametrize("r", [8, 16])
def test_a_fade_of_g_goes_from_the_enlarged_image_of_half_the_resolution_to_the_image(r: int) -> None:
    G, z = Generator(16, 3, 8, 5, start_resolution=4), torch.randn(2, 5)
    low = F.interpolate(G(z, resolution=r // 2), scale_factor=2, mode="nearest")
    high = G(z, resolution=r)
    for alpha in (0.0, 0.25, 1.0):
        torch.testing.assert_close(G(z, resolution=r, alpha=torch.tensor(alpha)), (1 - alpha) * low + alpha * high)


def test_a_fade_of_d_written_out() -> None:
    """At 8 px with alpha 0.3, features and all."""
    D, x = Discriminator(8, 3, 8, start_resolution=4).double(), doubles(2, 3, 8, 8)
    w = D.state_dict()
    h = plain_block(w, "blocks.8", F.conv2d(x, w["from_rgb.8.weight"], w["from_rgb.8.bias"], padding=1))
    h = F.conv2d(h, torch.full((h.shape[1], 1, 3, 3), 1 / 9).to(h), stride=2, padding=1, groups=h.shape[1])
    halved = x.reshape(2, 3, 4, 2, 4, 2).mean((3, 5))
    low = F.conv2d(halved, w["from_rgb.4.weight"], w["from_rgb.4.bias"], padding=1)
    features = F.leaky_relu(plain_block(w, "blocks.4", 0.7 * low + 0.3 * h), 0.2).reshape(2, -1)
    expected = F.linear(features, w["judge.linear.weight"], w["judge.linear.bias"])[:, 0]
    torch.testing.assert_close(D(x, alpha=torch.tensor(0.3, dtype=torch.float64)).logits, expected)


@pytest.mark.parametrize("r", [8, 16])
def test_a_fade_of_d_begins_as_d_at_half_the_resolution_and_ends_as_d_at_the_resolution(r: int) -> None:
    D, x = Discriminator(16, 3, 8, start_resolution=4), torch.randn(2, 3, r, r)
    halved = x.reshape(2, 3, r // 2, 2, r // 2, 2).mean((3, 5))
    torch.testing.assert_close(D(x, alpha=torch.tensor(0.0)).logits, D(halved).logits)
    torch.testing.assert_close(D(x, alpha=torch.tensor(1.0)).logits, D(x).logits)


def test_parameters_of_resolutions_to_come_get_no_gradient() -> None:
    G, D = Generator(32, 3, 8, 5, start_resolution=8), Discriminator(32, 3, 8, start_resolution=8)
    alpha = torch.tensor(0.5)
    D(G(torch.randn(2, 5), resolution=16, alpha=alpha), alpha=alpha).logits.sum().backward()
    for network in (G, D):
        active = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert not [name for name in active if ".32." in name]
        assert {name for name, _ in network.named_parameters() if ".32." not in name} == active


def enlarged(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize("alpha", [None, 0.0, 0.4, 1.0])
def test_growth_with_skips_changes_neither_picture_nor_logit_before_it_is_trained(alpha: float | None) -> None:
    """From 4 to 8 px and, when 8 px have been trained, from 8 to 16 px."""
    G, D = Generator(16, 3, 8, 5, 3, 4, skips=True), Discriminator(16, 3, 8, start_resolution=4, skips=True)
    z, x, fade = torch.randn(4, 5), torch.randn(4, 3, 16, 16), None if alpha is None else torch.tensor(alpha)
    for r in (8, 16):
        assert torch.equal(G(z, resolution=r, alpha=fade), enlarged(G(z, resolution=r // 2)))
        now = x if r == 16 else F.avg_pool2d(x, 2)
        torch.testing.assert_close(D(now, alpha=fade).logits, D(F.avg_pool2d(now, 2)).logits, rtol=1e-5, atol=1e-6)
        for network in (G, D):
            for name, p in network.named_parameters():
                if ".8." in name:
                    nn.init.normal_(p, std=0.3)


def test_growth_with_skips_written_out() -> None:
    """From 4 px to 8 px; at 8 px with alpha 0.3, and without a fade."""
    G, D = (
        trained(Generator(8, 3, 8, 5, 3, 4, True)).double(),
        trained(Discriminator(8, 3, 8, 3, False, 0, 4, True)).double(),
    )
    w, z = G.state_dict(), doubles(2, 5)
    at_4 = plain_block(w, "blocks.4", F.linear(z, w["fc.weight"], w["fc.bias"]).reshape(2, -1, 4, 4))
    at_8 = plain_block(w, "blocks.8", enlarged(at_4))
    low, high = (
        F.conv2d(F.leaky_relu(x, 0.2), w[f"to_rgb.{r}.conv.weight"], w[f"to_rgb.{r}.conv.bias"], padding=1)
        for r, x in ((4, at_4), (8, at_8))
    )
    torch.testing.assert_close(G(z, resolution=4), torch.tanh(low))
    for alpha, share in ((None, 1.0), (torch.tensor(0.3, dtype=torch.float64), 0.3)):
        torch.testing.assert_close(G(z, resolution=8, alpha=alpha), torch.tanh(enlarged(low) + share * high))

    w, x = D.state_dict(), doubles(2, 3, 8, 8)
    h = plain_block(w, "blocks.8", F.conv2d(x, w["from_rgb.8.weight"], w["from_rgb.8.bias"], padding=1))
    h = F.conv2d(h, torch.full((h.shape[1], 1, 3, 3), 1 / 9).to(h), stride=2, padding=1, groups=h.shape[1])
    low = F.conv2d(F.avg_pool2d(x, 2), w["from_rgb.4.weight"], w["from_rgb.4.bias"], padding=1)
    for alpha, share in ((None, 1.0), (torch.tensor(0.3, dtype=torch.float64), 0.3)):
        features = F.leaky_relu(plain_block(w, "blocks.4", low + share * h), 0.2).reshape(2, -1)
        expected = F.linear(features, w["judge.linear.weight"], w["judge.linear.bias"])[:, 0]
        torch.testing.assert_close(D(x, alpha=alpha).logits, expected)


@pytest.mark.parametrize("resolution", [4, 48, 100, 0, -64])
def test_a_resolution_that_cannot_be(resolution: int) -> None:
    with pytest.raises(ValueError, match=rf"resolution {resolution} is not 4 \* 2\^k"):
        block_resolutions(resolution)
    assert block_resolutions(1024) == [2**k for k in range(2, 11)]
    assert math.prod(block_resolutions(8)) == 32
