"""What each stage builds from its config: networks, optimizers, the step, and its part of the registry."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from data_shards.errors import UserError, joined
from data_shards.loader import Batch
from data_shards.noise import Purpose, normal
from models import CodeEncoder, sample_posterior

from . import ema, frozen, networks
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
M = TypeVar("M", bound=nn.Module)
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LAYOUT = torch.channels_last  # about a fifth faster than contiguous on CPU, and what tensor cores want
SHOWN = 64  # images of a sample grid


class Stage(Protocol):
    """What the loop needs. facts: what a resume must find unchanged; terms: the names that a step reports.

    batches_per_step: batches of the stream that one iteration takes.
    """

    state: State
    data: Data
    facts: dict[str, str | int]
    terms: tuple[str, ...]
    resolution: int
    batches_per_step: int

    def step(self, batches: Sequence[Sequence[Batch]], images_seen: int) -> Terms:
        """One iteration. batches: this process's micro-batches of each batch; images_seen: the clock before it."""
        ...

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
    """Stage 1: VAE, beta-VAE or FactorVAE on the 64 px level. FactorVAE's iteration takes a second batch to permute."""

    resolution = 64

    def __init__(self, config: VaeConfig, world: World) -> None:
        self.config, self.world, self.dtype = config, world, DTYPES[config.precision]
        problems = Problems()
        problems.collect(lambda: check_split(config, world))
        self.data = problems.need(lambda: open_data(config.data, config.seed, 64))
        self.vae = networks.vae(config, self.data.channels).to(world.device, self.dtype).to(memory_format=LAYOUT)
        engine = Replicated(self.vae, networks.optimizer(config.optimizer, self.vae), world)
        engines, critic = {"vae": engine}, None
        if config.optimizer_critic is not None:
            network = networks.critic(config).to(world.device, self.dtype)
            critic = Replicated(network, networks.optimizer(config.optimizer_critic, network), world)
            engines["critic"] = critic
        self._step = VaeStep(self.vae, engine, critic, config)
        self.terms, self.batches_per_step = self._step.terms, 1 if critic is None else 2
        self.state = _registry(engines)
        self.facts = self.data.facts

    def step(self, batches: Sequence[Sequence[Batch]], images_seen: int) -> Terms:
        first, *more = [[vae_batch(b, self.world.device, self.dtype) for b in pieces] for pieces in batches]
        return self._step(first, more[0] if more else [], images_seen)

    @torch.no_grad()
    def samples(self) -> Tensor:
        """Rows of 16 reals, each above its reconstructions from the posterior mean."""
        x = shown(self.data, SHOWN // 2).to(self.world.device, self.dtype) / 255
        rebuilt = self.vae.decode(self.vae.encoder(x)[0])
        return torch.cat([torch.cat(rows) for rows in zip(x.split(16), rebuilt.split(16), strict=True)])


class GanStage:
    """Stage 2: GAN, InfoGAN, cGAN or ID-GAN. frozen: the encoder that gives the code, where it is a posterior's."""

    resolution, batches_per_step = 64, 1

    def __init__(self, config: GanConfig, world: World) -> None:
        self.config, self.world, self.dtype = config, world, DTYPES[config.precision]
        self.data, self.frozen = _open_inputs(config, world)
        self.facts = self.data.facts | ({"vae": self.frozen.sha256} if self.frozen else {})
        channels = self.data.channels
        G, D = self._place(networks.generator(config, channels)), self._place(networks.discriminator(config, channels))
        self.average = ema.clone(G)
        g = Replicated(G, networks.optimizer(config.optimizer_g, G), world)
        d = Replicated(D, networks.optimizer(config.optimizer_d, D), world)
        engines, q = {"generator": g, "discriminator": d}, None
        self.q = self._place(CodeEncoder(copy.deepcopy(self.frozen.encoder))) if self.frozen else None
        if config.optimizer_q is not None:
            network = self._place(networks.joint_q(config, channels))
            q = engines["q"] = Replicated(network, networks.optimizer(config.optimizer_q, network), world)
        self.state = _registry(engines)
        self.state.add_module("ema", self.average)
        self._step = GanStep(g, d, q or self.q, self.average, config)
        self.terms = self._step.terms

    def _place(self, network: M) -> M:
        return network.to(self.world.device, self.dtype).to(memory_format=LAYOUT)

    def step(self, batches: Sequence[Sequence[Batch]], images_seen: int) -> Terms:
        config, (pieces,) = self.config, batches
        return self._step([reals(b, config.data, config.seed, self.world.device, self.dtype) for b in pieces])

    @torch.no_grad()
    def samples(self) -> Tensor:
        """The averaged generator with fixed noise, at codes of the first reals where codes are a posterior's."""
        at = torch.arange(SHOWN, device=self.world.device)
        s = normal(self.config.seed, Purpose.EVAL_NUISANCE, at, (self.config.s_dim,)).to(self.dtype)
        c = normal(self.config.seed, Purpose.EVAL_CODE, at, (self.config.c_dim,)).to(self.dtype)
        if self.q is not None:
            twin = shown(self.data, SHOWN).to(self.world.device, self.dtype) / 127.5 - 1
            mean, logvar = self.q(twin)
            s, c = s[: len(twin)], sample_posterior(mean, logvar, c[: len(twin)])
        return (self.average(torch.cat((s, c), 1)) + 1) / 2


def _registry(engines: Mapping[str, Replicated]) -> State:
    """The state of every trained network and its optimizer."""
    state = State()
    for name, engine in engines.items():
        state.add_module(name, engine.network)
        state.add_optimizer(name, engine.optimizer, engine.network)
    return state


def _open_inputs(config: GanConfig, world: World) -> tuple[Data, frozen.Frozen | None]:
    """Data and the frozen encoder, or one error with everything that does not fit."""
    problems = Problems()
    problems.collect(lambda: check_split(config, world))
    data = problems.collect(lambda: open_data(config.data, config.seed, 64))
    path = config.vae
    q = problems.collect(lambda: frozen.load(path)) if path is not None else None
    if q and q.c_dim != config.c_dim:
        problems.add(f"c_dim: the config has {config.c_dim}, the encoder of {path} has {q.c_dim}; set c_dim={q.c_dim}")
    if q and data and q.channels != data.channels:
        problems.add(
            f"vae: {path} sees {q.channels} channels, the data {data.channels}; train stage 1 on the same "
            "data.path and data.variant"
        )
    if data and data.main.manifest.data_set == "dsprites":
        for key in ("flip", "dequantise"):
            if getattr(config.data, key):
                problems.add(f"data.{key}: true, but the dSprites family has neither; set data.{key}=false")
    problems.stop()
    assert data is not None
    return data, q


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
