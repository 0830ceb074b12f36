"""What makes large images affordable: each switch has the effect that it is for, and leaves the gradients alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from models import Discriminator, Generator
from models.resnet import ResBlock, set_checkpointing
from tests.reference import plain
from trainer.steps import losses
from trainer.steps.gan_step import Penalties


@contextmanager
def saved_bytes() -> Iterator[list[int]]:
    """Bytes of distinct tensors that autograd keeps for the backward pass."""
    seen: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        kept.append(t)  # else its storage could be used again, and two tensors counted as one
        return t

    total: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        yield total
    total.append(sum(seen.values()))


def gradients(network: nn.Module) -> list[Tensor]:
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    return found


def r1_pass(D: Discriminator, x: Tensor, noise: Tensor) -> tuple[int, list[Tensor]]:
    """D on reals with R1, its memory and its gradients."""
    D.requires_grad_(False)
    g = losses.image_gradient(D, x, noise=noise)
    D.requires_grad_(True)
    with saved_bytes() as kept:
        out = D(x, noise=noise, tangent=g)
        loss = losses.discriminator_real(out.logits) + 10 * losses.gradient_penalty(out.tangent) + 0.1 * out.kl.mean()
    loss.backward()
    return kept[0], gradients(D)


def g_pass(G: Generator, D: Discriminator, z: Tensor) -> tuple[int, list[Tensor]]:
    D.requires_grad_(False)
    with saved_bytes() as kept:
        loss = losses.generator(D(G(z)).logits)
    loss.backward()
    D.requires_grad_(True)
    return kept[0], gradients(G)


def test_checkpointing_keeps_less_and_gives_the_same_gradients() -> None:
    """Also through the tangent: the more, the more resolutions take part."""
    torch.manual_seed(0)
    G, D = Generator(64, 4, 16, 5).double(), Discriminator(64, 4, 16, bottleneck=True).double()
    x, z = torch.randn(2, 3, 64, 64, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    noise = torch.randn(2, *D.noise_shape, dtype=torch.float64)
    d_bytes, g_bytes, expected = [], [], None
    for start in (None, 64, 4):
        for network in (G, D):
            set_checkpointing(network, start)
        (d_kept, d_found), (g_kept, g_found) = r1_pass(D, x, noise), g_pass(G, D, z)
        d_bytes.append(d_kept)
        g_bytes.append(g_kept)
        expected = expected or (d_found, g_found)
        for found, reference in zip((d_found, g_found), expected, strict=True):
            for a, b in zip(found, reference, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    for found in (d_bytes, g_bytes):
        nothing, top, every = found
        assert nothing > top > every
        assert every < 0.75 * nothing


def test_checkpointing_begins_at_its_resolution() -> None:
    G = Generator(32, 2, 4, 5)
    set_checkpointing(G, 16)
    found = {name: block.checkpointed for name, block in G.blocks.items() if isinstance(block, ResBlock)}
    assert found == {"4": False, "8": False, "16": True, "32": True}


def test_a_config_asks_for_it() -> None:
    config = plain.grown_config("ID-GAN", checkpointing={"from_resolution": 8})
    for network in (plain.grown_networks(config).G, plain.grown_networks(config).D):
        found = {name: m.checkpointed for name, m in network.named_modules() if isinstance(m, ResBlock)}
        assert [name for name in found if not found[name]] == ["blocks.4"]
        assert len(found) == 3


@pytest.mark.parametrize("count", [1, 2, 4])
def test_micro_batches_are_as_many_passes(count: int) -> None:
    config = plain.grown_config("ID-GAN")
    gan = plain.grown_networks(config)
    copied = copy.deepcopy(gan)
    calls: list[int] = []
    gan.G.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    (batch,) = list(plain.gan_batches(size=16))[:1]
    plain.gan_step(config, gan, plain.ALONE)(plain.pieces(batch, count), Penalties(10), 0, plain.BATCH)
    assert calls == [plain.BATCH // count] * (2 * count)
    plain.gan_step(config, copied, plain.ALONE)([batch], Penalties(10), 0, plain.BATCH)
    plain.assert_same_parameters(gan.trained("ID-GAN"), copied.trained("ID-GAN"))
