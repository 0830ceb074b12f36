"""The networks of a config, with their untrained weights, which are a function of its seed, and their optimizers."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Adam, Optimizer, RMSprop

from models import VAE, CodeEncoder, ConvDiscriminator, ConvGenerator, Critic, Discriminator, Encoder, Generator
from models.resnet import set_checkpointing
from trainer.config.schema import GanConfig, VaeConfig
from trainer.config.sections import AdamConfig, ResNetConfig, RMSpropConfig

N = TypeVar("N", bound=nn.Module)


def vae(config: VaeConfig, channels: int) -> VAE:
    """Build the VAE of stage 1."""
    torch.manual_seed(config.seed)
    return VAE(channels, config.c_dim, config.init)


def critic(config: VaeConfig) -> Critic:
    """Build FactorVAE's critic."""
    torch.manual_seed(config.seed + 1)
    return Critic(config.c_dim, config.init)


def generator(config: GanConfig, channels: int, y_dim: int = 0) -> nn.Module:
    """Build G. Its input is [s, y, c]: [B, s_dim + y_dim + c_dim]. y_dim: of the labels, 0 without them.

    The first layer is linear, so what it does with y is an embedding of the labels.
    """
    torch.manual_seed(config.seed)
    arguments = generator_arguments(config, channels, y_dim)
    if not isinstance(config.network, ResNetConfig):
        return ConvGenerator(**arguments)
    return _checkpointed(config, Generator(**arguments))


def generator_arguments(config: GanConfig, channels: int, y_dim: int = 0) -> dict[str, Any]:
    """Return the keyword arguments of G's class, Generator or ConvGenerator, as JSON values."""
    network, inputs = config.network, {"z_dim": config.s_dim + y_dim + config.c_dim, "channels": channels}
    if not isinstance(network, ResNetConfig):
        return inputs
    sizes = {"resolution": config.resolution, "nf": network.generator_nf or network.nf, "nf_max": network.nf_max}
    grows = {"start_resolution": _start(config), "skips": _skips(config)}
    return {**sizes, **inputs, **grows, "nf_min": network.nf_min}


def discriminator(config: GanConfig, channels: int, y_dim: int = 0) -> ConvDiscriminator | Discriminator:
    """Build D. y_dim: of the labels, 0 without them."""
    torch.manual_seed(config.seed + 1)
    c_dim, shape = config.c_dim if config.d_sees_code else 0, config.network
    if not isinstance(shape, ResNetConfig):
        return ConvDiscriminator(channels, c_dim, y_dim)
    bottleneck = config.bottleneck is not None
    size = (config.resolution, shape.nf, shape.nf_max)
    grows = (_start(config), _skips(config))
    return _checkpointed(config, Discriminator(*size, channels, bottleneck, c_dim, *grows, shape.nf_min, y_dim))


def frozen(config: GanConfig, d: ConvDiscriminator | Discriminator) -> frozenset[str]:
    """Return the names of D's parameters that `freeze_d` keeps as they are."""
    fixed = {id(p) for block in d.first_blocks(config.freeze_d) for p in block.parameters()}
    return frozenset(name for name, p in d.named_parameters() if id(p) in fixed)


def _checkpointed(config: GanConfig, network: N) -> N:
    if config.checkpointing:
        set_checkpointing(network, config.checkpointing.from_resolution)
    return network


def _start(config: GanConfig) -> int | None:
    return config.growth.start_resolution if config.growth else None


def _skips(config: GanConfig) -> bool:
    return config.growth is not None and config.growth.warm_start


def joint_q(config: GanConfig, channels: int) -> CodeEncoder:
    """Build InfoGAN's q, which is trained with G: the encoder of Table A.2, for images in [-1, 1]."""
    torch.manual_seed(config.seed + 2)
    return CodeEncoder(Encoder(channels, config.c_dim))


def optimizer(config: AdamConfig | RMSpropConfig, network: nn.Module) -> Optimizer:
    """Build torch's optimizer with the config's settings."""
    if isinstance(config, AdamConfig):
        return Adam(network.parameters(), config.lr, config.betas, config.eps)
    return RMSprop(network.parameters(), config.lr, config.alpha, config.eps)
