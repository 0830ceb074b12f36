"""Tensors of the public code in our networks: images, logits and codes of its own forward passes, re-derived."""

from __future__ import annotations

import pytest
import torch

from models import VAE, ConvDiscriminator, ConvGenerator, Discriminator, Generator
from tests.reference import public_code as reference
from tests.support import public_code as files
from trainer.public_code.names import fill, problems, sources

SIZES = [(8, 3, 512), (64, 4, 16), (128, 2, 512), (256, 1, 4)]
TOLERANCE = {"rtol": 0.0, "atol": 1e-5}


@pytest.mark.parametrize(("resolution", "nf", "nf_max"), SIZES)
def test_a_resnet_generator_makes_the_same_images(resolution: int, nf: int, nf_max: int) -> None:
    state = files.resnet_generator(resolution, nf, nf_max, 7, seed=0)
    network = Generator(resolution, nf, nf_max, 7)
    assert problems(network, state, "generator") == []
    fill(network, state)
    z = torch.randn(3, 7)
    expected = reference.resnet_generator(state, z)
    assert expected.shape == (3, 3, resolution, resolution)
    assert float(expected.std()) > 0.1, "an image that is all alike shows nothing"
    with torch.no_grad():
        torch.testing.assert_close(network(z), expected, **TOLERANCE)


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize(("resolution", "nf", "nf_max"), SIZES)
def test_a_resnet_discriminator_gives_the_same_logits(resolution: int, nf: int, nf_max: int, bottleneck: bool) -> None:
    state = files.resnet_discriminator(resolution, nf, nf_max, 0, bottleneck)
    network = Discriminator(resolution, nf, nf_max, 3, bottleneck)
    assert problems(network, state, "discriminator") == []
    fill(network, state)
    x = torch.rand(3, 3, resolution, resolution) * 2 - 1
    expected = reference.resnet_discriminator(state, x)
    with torch.no_grad():
        torch.testing.assert_close(network(x).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_networks_of_sprites(channels: int) -> None:
    state = files.conv_generator(10, channels, seed=0)
    generator = ConvGenerator(10, channels)
    assert problems(generator, state, "generator") == []
    fill(generator, state)
    z = torch.randn(3, 10)
    expected = reference.conv_generator(state, z).tanh()
    assert float(expected.std()) > 0.1
    with torch.no_grad():
        torch.testing.assert_close(generator(z), expected, **TOLERANCE)
    state = files.conv_discriminator(channels, seed=1)
    discriminator = ConvDiscriminator(channels)
    assert problems(discriminator, state, "discriminator") == []
    fill(discriminator, state)
    x = torch.rand(3, channels, 64, 64)
    with torch.no_grad():
        logits = reference.conv_discriminator(state, x).squeeze(1)
        torch.testing.assert_close(discriminator(x).logits, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_vae_encodes_and_decodes_alike(channels: int) -> None:
    state = files.vae(6, channels, seed=0)
    vae = VAE(channels, 6)
    assert problems(vae, state, "the VAE") == []
    fill(vae, state)
    x, c = torch.rand(3, channels, 64, 64), torch.randn(3, 6)
    with torch.no_grad():
        mean, logvar = reference.conv_discriminator(state, x, "encoder.").chunk(2, 1)
        torch.testing.assert_close(vae.encoder(x), (mean, logvar), rtol=1e-5, atol=1e-5)
        decoded = reference.conv_generator(state, c, "decoder.").sigmoid()
        torch.testing.assert_close(vae.decode(c), decoded, **TOLERANCE)


def test_every_tensor_of_ours_comes_from_another_one() -> None:
    for network in (Generator(32, 2, 8, 5), Discriminator(32, 2, 8, 3, True), VAE(3, 4), ConvGenerator(4, 1)):
        found = sources(network)
        assert found.keys() == network.state_dict().keys()
        assert len({source.name for source in found.values()}) == len(found)


def test_what_does_not_fit_is_listed_name_by_name() -> None:
    state = files.resnet_generator(16, 2, 8, 5, seed=0)
    network = Generator(16, 2, 8, 6)
    assert problems(network, state, "generator") == [
        "generator: fc.weight: is 128 x 5, in the config's network 128 x 6"
    ]
    del state["resnet.2.conv_1.bias"]
    state["embedding.weight"] = torch.zeros(1, 256)
    state["conv_img.bias"][1] = torch.inf
    state["fc.weight"] = torch.zeros(128, 6)
    assert problems(network, state, "generator") == [
        "generator: resnet.2.conv_1.bias: is not there; the config's network has it, 2",
        "generator: conv_img.bias: holds values that are not finite",
        "generator: embedding.weight: the config's network has none; it is 1 x 256",
    ]
