"""The networks that a config names, with their initial weights a function of its seed."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn
from torch.optim import Adam, Optimizer, RMSprop

from common.errors import UserError
from models import VAE, CodeEncoder, ConvDiscriminator, ConvGenerator, Critic, Discriminator, Encoder, Generator
from models.resnet import set_checkpointing
from trainer.config.schema import GanConfig, VaeConfig
from trainer.config.sections import AdamConfig, ResNetConfig, RMSpropConfig

N = TypeVar("N", bound=nn.Module)
CACHE = "TORCHINDUCTOR_CACHE_DIR"
GRAPHS = 128  # of one network: nine sizes, fades, and up to six kinds of pass


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
    z_dim, shape = config.s_dim + config.c_dim, config.network
    if not isinstance(shape, ResNetConfig):
        return ConvGenerator(z_dim, channels)
    nf = shape.generator_nf or shape.nf
    return _checkpointed(config, Generator(config.resolution, nf, shape.nf_max, z_dim, channels, _start(config)))


def discriminator(config: GanConfig, channels: int) -> ConvDiscriminator | Discriminator:
    """D, with its untrained weights."""
    torch.manual_seed(config.seed + 1)
    c_dim, shape = config.c_dim if config.d_sees_code else 0, config.network
    if not isinstance(shape, ResNetConfig):
        return ConvDiscriminator(channels, c_dim)
    bottleneck = config.bottleneck is not None
    size = (config.resolution, shape.nf, shape.nf_max)
    return _checkpointed(config, Discriminator(*size, channels, bottleneck, c_dim, _start(config)))


def _checkpointed(config: GanConfig, network: N) -> N:
    if config.checkpointing:
        set_checkpointing(network, config.checkpointing.from_resolution)
    return network


def _start(config: GanConfig) -> int | None:
    return config.growth.start_resolution if config.growth else None


def joint_q(config: GanConfig, channels: int) -> CodeEncoder:
    """InfoGAN's q, with its untrained weights: the encoder of Table A.2, for images in [-1, 1]."""
    torch.manual_seed(config.seed + 2)
    return CodeEncoder(Encoder(channels, config.c_dim))


def compile_passes(networks: Sequence[nn.Module], device: torch.device, backend: str = "inductor") -> None:
    """From now on every call of these is compiled as one graph, tangents included; names and weights stay.

    Each kind of pass has its own graph: with and without gradients for the weights or the image, tangent and fade, at
    every size. torch gives up after 8 by default. Raises UserError where the CPU's code could not be built.
    """
    if device.type == "cpu" and backend == "inductor" and shutil.which("g++") is None:
        raise UserError("compile: true needs a C++ compiler on the CPU; install g++, or set compile=false")
    torch._dynamo.config.recompile_limit = GRAPHS
    if CACHE not in os.environ:  # the shared one keeps a file that a killed compiler left half written, and fails on it
        os.environ[CACHE] = tempfile.mkdtemp(prefix="idgan-compiled-")
        atexit.register(shutil.rmtree, os.environ[CACHE], ignore_errors=True)
    for network in networks:  # forward alone: what a strategy hangs on the call around it need be in no graph
        network.forward = torch.compile(network.forward, fullgraph=True, dynamic=False, backend=backend)


def optimizer(config: AdamConfig | RMSpropConfig, network: nn.Module) -> Optimizer:
    """torch's optimizer with the config's settings."""
    if isinstance(config, AdamConfig):
        return Adam(network.parameters(), config.lr, config.betas, config.eps)
    return RMSprop(network.parameters(), config.lr, config.alpha, config.eps)
