"""What each stage builds from its config: networks, optimizers, the step, and its part of the registry."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor

from data_shards.errors import UserError, joined
from data_shards.loader import Batch
from data_shards.noise import Purpose, normal
from models import VAE, CodeEncoder, sample_posterior

from . import ema, networks, vae_file
from .batches import reals, vae_batch
from .config import GanConfig, RunConfig, VaeConfig
from .data import Data, open_data
from .engines.ddp import Replicated
from .gan_step import GanStep
from .state import State
from .stats import Terms
from .vae_step import VaeStep
from .world import World

T = TypeVar("T")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LAYOUT = torch.channels_last  # about a fifth faster than contiguous on CPU, and what tensor cores want
SHOWN = 64  # images of a sample grid


class Stage(Protocol):
    """What the loop needs. facts: what a resume must find unchanged; terms: the names that a step reports."""

    state: State
    data: Data
    facts: dict[str, str | int]
    terms: tuple[str, ...]
    resolution: int

    def step(self, batches: Sequence[Batch], images_seen: int) -> Terms: ...

    def samples(self) -> Tensor:
        """Images of a grid, [N, C, R, R] in [0, 1]."""
        ...


def check_split(config: RunConfig, world: World) -> None:
    """Refuse a batch that does not split evenly over processes and micro-batches."""
    share, rest = divmod(config.batch_size, world.size)
    if rest:
        raise UserError(f"batch_size: {config.batch_size} does not divide by {world.size} processes; choose a multiple")
    if config.micro_batch and share % config.micro_batch:
        raise UserError(
            f"micro_batch: {config.micro_batch} does not divide the {share} images of each process; choose a divisor"
        )


def shown(data: Data, count: int) -> Tensor:
    """The reals of a sample grid, from all over the set: uint8 [N, C, 64, 64]."""
    return data.at(data.mixed(0, torch.arange(min(count, data.main.count))), data.seed)


class VaeStage:
    """Stage 1: a beta-VAE on the 64 px level."""

    terms: tuple[str, ...] = VaeStep.terms
    resolution = 64

    def __init__(self, config: VaeConfig, world: World) -> None:
        self.config, self.world, self.dtype = config, world, DTYPES[config.precision]
        problems = Problems()
        problems.collect(lambda: check_split(config, world))
        self.data = problems.need(lambda: open_data(config.data, config.seed, 64))
        self.vae = networks.vae(config, self.data.channels).to(world.device, self.dtype).to(memory_format=LAYOUT)
        engine = Replicated(self.vae, networks.optimizer(config.optimizer, self.vae), world)
        self._step = VaeStep(self.vae, engine, config)
        self.state = State()
        self.state.add_module("vae", self.vae)
        self.state.add_optimizer("vae", engine.optimizer, self.vae)
        self.facts = self.data.facts

    def step(self, batches: Sequence[Batch], images_seen: int) -> Terms:
        return self._step([vae_batch(b, self.world.device, self.dtype) for b in batches], images_seen)

    @torch.no_grad()
    def samples(self) -> Tensor:
        """Rows of 16 reals, each above its reconstructions from the posterior mean."""
        x = shown(self.data, SHOWN // 2).to(self.world.device, self.dtype) / 255
        rebuilt = self.vae.decode(self.vae.encoder(x)[0])
        return torch.cat([torch.cat(rows) for rows in zip(x.split(16), rebuilt.split(16), strict=True)])


class GanStage:
    """Stage 2: ID-GAN with the encoder of a trained VAE."""

    terms: tuple[str, ...] = GanStep.terms
    resolution = 64

    def __init__(self, config: GanConfig, world: World) -> None:
        self.config, self.world, self.dtype = config, world, DTYPES[config.precision]
        self.data, self.vae = _open_inputs(config, world)
        self.facts = self.data.facts | {"vae": vae_file.sha256(self.vae)}
        device, channels = world.device, self.data.channels
        G = networks.generator(config, channels).to(device, self.dtype).to(memory_format=LAYOUT)
        D = networks.discriminator(config, channels).to(device, self.dtype).to(memory_format=LAYOUT)
        self.average = ema.clone(G)
        self.q = CodeEncoder(copy.deepcopy(self.vae.encoder)).to(device, self.dtype).to(memory_format=LAYOUT)
        g = Replicated(G, networks.optimizer(config.optimizer_g, G), world)
        d = Replicated(D, networks.optimizer(config.optimizer_d, D), world)
        self.state = State()
        for name, engine in (("generator", g), ("discriminator", d)):
            self.state.add_module(name, engine.network)
            self.state.add_optimizer(name, engine.optimizer, engine.network)
        self.state.add_module("ema", self.average)
        self._step = GanStep(g, d, self.q, self.average, config)

    def step(self, batches: Sequence[Batch], images_seen: int) -> Terms:
        config = self.config
        return self._step([reals(b, config.data, config.seed, self.world.device, self.dtype) for b in batches])

    @torch.no_grad()
    def samples(self) -> Tensor:
        """The averaged generator at codes of the first reals, with fixed noise."""
        twin = shown(self.data, SHOWN).to(self.world.device, self.dtype) / 127.5 - 1
        at = torch.arange(len(twin), device=self.world.device)
        s = normal(self.config.seed, Purpose.EVAL_NUISANCE, at, (self.config.s_dim,)).to(self.dtype)
        eps = normal(self.config.seed, Purpose.EVAL_CODE, at, (self.config.c_dim,)).to(self.dtype)
        mean, logvar = self.q(twin)
        c = sample_posterior(mean, logvar, eps)
        return (self.average(torch.cat((s, c), 1)) + 1) / 2


def _open_inputs(config: GanConfig, world: World) -> tuple[Data, VAE]:
    """Data and VAE, or one error with everything that does not fit."""
    problems = Problems()
    problems.collect(lambda: check_split(config, world))
    data = problems.collect(lambda: open_data(config.data, config.seed, 64))
    vae = problems.collect(lambda: vae_file.load(config.vae))
    if vae and vae.c_dim != config.c_dim:
        problems.add(
            f"c_dim: the config has {config.c_dim}, the VAE {config.vae} has {vae.c_dim}; set c_dim={vae.c_dim}"
        )
    if vae and data and vae.channels != data.channels:
        problems.add(
            f"vae: {config.vae} sees {vae.channels} channels, the data {data.channels}; train stage 1 on the same "
            "data.path and data.variant"
        )
    if data and data.main.manifest.data_set == "dsprites":
        for key in ("flip", "dequantise"):
            if getattr(config.data, key):
                problems.add(f"data.{key}: true, but the dSprites family has neither; set data.{key}=false")
    problems.stop()
    assert data is not None
    assert vae is not None
    return data, vae


class Problems:
    """Everything that is wrong, raised at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        self.found.append(problem)

    def collect(self, check: Callable[[], T]) -> T | None:
        """The result, or None where it raised a UserError."""
        try:
            return check()
        except UserError as error:
            self.add(str(error))
            return None

    def need(self, check: Callable[[], T]) -> T:
        """The last result, after which all that was found is raised."""
        result = self.collect(check)
        self.stop()
        return cast(T, result)

    def stop(self) -> None:
        if self.found:
            raise joined("the run cannot start", self.found)
