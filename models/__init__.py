"""The networks, and nothing else: no files, ranks or devices."""

from .convnet import ConvDiscriminator, ConvGenerator, DiscriminatorOutput
from .factor_net import FactorNet, FactorPrediction
from .vae import VAE, CodeEncoder, Critic, Encoder, VaeOutput, freeze, sample_posterior

__all__ = [
    "VAE",
    "CodeEncoder",
    "ConvDiscriminator",
    "ConvGenerator",
    "Critic",
    "DiscriminatorOutput",
    "Encoder",
    "FactorNet",
    "FactorPrediction",
    "VaeOutput",
    "freeze",
    "sample_posterior",
]
