"""The networks that a config names, with their initial weights a function of its seed."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Adam, Optimizer, RMSprop

from models import VAE, CodeEncoder, ConvDiscriminator, ConvGenerator, Critic, Encoder

from .config import AdamConfig, GanConfig, RMSpropConfig, VaeConfig


def vae(config: VaeConfig, channels: int) -> VAE:
    """Stage 1's network."""
    torch.manual_seed(config.seed)
    return VAE(channels, config.c_dim, config.init)


def critic(config: VaeConfig) -> Critic:
    """FactorVAE's critic."""
    torch.manual_seed(config.seed + 1)
    return Critic(config.c_dim, config.init)


def generator(config: GanConfig, channels: int) -> nn.Module:
    """G, with its untrained weights. Input [B, s_dim + c_dim], s first."""
    torch.manual_seed(config.seed)
    return ConvGenerator(config.s_dim + config.c_dim, channels)


def discriminator(config: GanConfig, channels: int) -> nn.Module:
    """D, with its untrained weights."""
    torch.manual_seed(config.seed + 1)
    return ConvDiscriminator(channels, config.c_dim if config.d_sees_code else 0)


def joint_q(config: GanConfig, channels: int) -> CodeEncoder:
    """InfoGAN's q, with its untrained weights: the encoder of Table A.2, for images in [-1, 1]."""
    torch.manual_seed(config.seed + 2)
    return CodeEncoder(Encoder(channels, config.c_dim))


def optimizer(config: AdamConfig | RMSpropConfig, network: nn.Module) -> Optimizer:
    """torch's optimizer with the config's settings."""
    if isinstance(config, AdamConfig):
        return Adam(network.parameters(), config.lr, config.betas, config.eps)
    return RMSprop(network.parameters(), config.lr, config.alpha, config.eps)
