"""The networks, and nothing else: they know of no files, ranks or devices."""

from .convnet import ConvDiscriminator, ConvGenerator
from .discriminator_output import DiscriminatorOutput
from .factor_net import FactorNet, FactorPrediction
from .image_chunks import in_chunks
from .resnet import Discriminator, Generator
from .vae import VAE, CodeEncoder, Critic, Encoder, VaeOutput, freeze, sample_posterior

__all__ = [
    "VAE",
    "CodeEncoder",
    "ConvDiscriminator",
    "ConvGenerator",
    "Critic",
    "Discriminator",
    "DiscriminatorOutput",
    "Encoder",
    "FactorNet",
    "FactorPrediction",
    "Generator",
    "VaeOutput",
    "freeze",
    "in_chunks",
    "sample_posterior",
]
