"""The networks, and nothing else: no files, ranks or devices."""

from .convnet import ConvDiscriminator, ConvGenerator, DiscriminatorOutput
from .factor_net import FactorNet, FactorPrediction
from .vae import VAE, CodeEncoder, Encoder, freeze, sample_posterior

__all__ = [
    "VAE",
    "CodeEncoder",
    "ConvDiscriminator",
    "ConvGenerator",
    "DiscriminatorOutput",
    "Encoder",
    "FactorNet",
    "FactorPrediction",
    "freeze",
    "sample_posterior",
]
