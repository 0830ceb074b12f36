"""What each stage builds from its config: networks, optimizers, the step, and its part of the registry."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from common.errors import UserError, joined
from common.random_numbers import Purpose, normal
from data_shards.read.loader import TWIN, Batch
from models import CodeEncoder, in_passes, sample_posterior
from trainer.checkpoints.ema_snapshots import Snapshots
from trainer.checkpoints.state import State
from trainer.config.schema import GanConfig, RunConfig, VaeConfig
from trainer.distributed.engines.choice import engine
from trainer.distributed.engines.ddp import Replicated
from trainer.distributed.world import World
from trainer.encoders import frozen
from trainer.jobs.evaluation_jobs import weights_problem
from trainer.memory import estimate
from trainer.steps import networks, schedule
from trainer.steps.batches import reals, vae_batch
from trainer.steps.ema import Averages
from trainer.steps.forward_passes import Passes
from trainer.steps.gan_step import GanStep
from trainer.steps.kl_constraint import Dual
from trainer.steps.running_means import Terms
from trainer.steps.schedule import Now, Phase
from trainer.steps.vae_step import VaeStep

from .data import Data, open_data

log = logging.getLogger(__name__)

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LAYOUT = torch.channels_last  # about a fifth faster than contiguous on CPU, and what tensor cores want
SHOWN = 64  # images of a sample grid


class Start(NamedTuple):
    """Where a run starts: its folder, if it has one, and the clock of its newest checkpoint."""

    run: Path | None = None
    images_seen: int = 0


FRESH = Start()


class Stage(Protocol):
    """What the loop needs. facts: what a resume must find unchanged; terms: the names that a step reports.

    plan: resolution, batch size and fade over the clock, whose inputs were looked at from `first` on (images seen);
    batches_per_step: of the stream, that one iteration takes.
    snapshots: of averages, that the loop writes; None is none.
    """

    state: State
    data: Data
    facts: dict[str, str | int]
    terms: tuple[str, ...]
    plan: list[Phase]
    first: int
    batches_per_step: int
    snapshots: Snapshots | None

    def step(self, batches: Sequence[Sequence[Batch]], now: Now, images_seen: int) -> Terms:
        """One iteration. batches: this process's micro-batches of each batch; images_seen: the clock before it."""
        ...

    def samples(self, now: Now) -> Tensor:
        """Images of a grid, uint8 [N, C, R, R] on the CPU, at the resolution of now. All processes call it together."""
        ...


def split_problems(config: RunConfig, plan: Sequence[Phase], world: World) -> list[str]:
    """Batches that do not split evenly over processes and micro-batches, in whatever stage; nothing to split over."""
    problems = []
    if isinstance(config, GanConfig) and config.strategy != "ddp" and world.size == 1:
        problems.append(f"strategy: {config.strategy} splits over processes, and there is one; set strategy=ddp")
    for batch in dict.fromkeys(phase.batch_size for phase in plan):
        key = "batch_size" if batch == config.batch_size else "growth.batch_size"
        share, rest = divmod(batch, world.size)
        if rest:
            problems.append(f"{key}: {batch} does not divide by {world.size} processes; choose a multiple")
        elif config.micro_batch and share % config.micro_batch:
            problems.append(
                f"micro_batch: {config.micro_batch} does not divide the {share} images of each process "
                f"({key}: {batch}); choose a divisor"
            )
    return problems


def shown(data: Data, count: int) -> Tensor:
    """The reals of a sample grid, from all over the set: uint8 [N, C, 64, 64]."""
    return data.at(data.mixed(0, torch.arange(min(count, data.main.count))), data.seed)


class VaeStage:
    """Stage 1: VAE, beta-VAE or FactorVAE on the 64 px level. FactorVAE's iteration takes a second batch to permute."""

    snapshots: Snapshots | None = None
    first = 0

    def __init__(self, config: VaeConfig, world: World, start: Start = FRESH) -> None:
        self.config, self.world, self.dtype = config, world, DTYPES[config.precision]
        self.plan = schedule.phases(TWIN, config.batch_size, None)
        problems = Problems(split_problems(config, self.plan, world))
        self.data = problems.need(lambda: open_data(config.data, config.seed))
        self.vae = networks.vae(config, self.data.channels).to(world.device, self.dtype).to(memory_format=LAYOUT)
        trained = Replicated("vae", self.vae, partial(networks.optimizer, config.optimizer), world)
        self.state, critic = State(), None
        self.state.add(trained)
        if config.optimizer_critic is not None:
            network = networks.critic(config).to(world.device, self.dtype)
            critic = Replicated("critic", network, partial(networks.optimizer, config.optimizer_critic), world)
            self.state.add(critic)
        self._step = VaeStep(self.vae, trained, critic, config)
        self.terms, self.batches_per_step = self._step.terms, 1 if critic is None else 2
        self.facts = self.data.facts

    def step(self, batches: Sequence[Sequence[Batch]], now: Now, images_seen: int) -> Terms:
        first, *more = [[vae_batch(b, self.world.device, self.dtype) for b in pieces] for pieces in batches]
        return self._step(first, more[0] if more else [], images_seen)

    @torch.no_grad()
    def samples(self, now: Now) -> Tensor:
        """Rows of 16 reals, each above its reconstructions from the posterior mean."""
        x = shown(self.data, SHOWN // 2).to(self.world.device, self.dtype) / 255
        rebuilt = self.vae.decode(self.vae.encoder(x)[0])
        return _uint8(torch.cat([torch.cat(rows) for rows in zip(x.split(16), rebuilt.split(16), strict=True)]))


class GanTraining:
    """All of stage 2 but its data: what memory.Estimator runs on fake tensors. encoder: gives the code, or None."""

    batches_per_step = 1

    def __init__(self, config: GanConfig, world: World, channels: int, encoder: nn.Module | None) -> None:
        self.config, self.world, self.dtype = config, world, DTYPES[config.precision]
        self.plan = schedule.phases(config.resolution, config.batch_size, config.growth)
        G, D = self._place(networks.generator(config, channels)), self._place(networks.discriminator(config, channels))
        self.g = g = engine(config.strategy, "generator", G, partial(networks.optimizer, config.optimizer_g), world)
        self.d = d = engine(config.strategy, "discriminator", D, partial(networks.optimizer, config.optimizer_d), world)
        self.averages, learner = Averages(g, config.ema.averages), None
        self.snapshots = Snapshots(self.averages, config.ema) if config.ema.snapshot_kimg is not None else None
        self.q = None if encoder is None else self._place(CodeEncoder(encoder))
        if config.optimizer_q is not None:
            network = self._place(networks.joint_q(config, channels))
            learner = Replicated("q", network, partial(networks.optimizer, config.optimizer_q), world)
        self.state = State()
        for part in (g, d, *((learner,) if learner else ()), self.averages):
            self.state.add(part)
        dual = Dual(config.bottleneck, world, self.dtype)
        if config.bottleneck:
            self.state.add_tensor("bottleneck.beta", dual.beta)
        teacher: nn.Module | None = self.q if config.code_loss == "distill" else learner.network if learner else None
        if config.compile:
            networks.compile_passes([n for n in (G, D, self.q, learner and learner.network) if n], world.device)
        passes = Passes(g.network, d.network, self.q, config)
        self._step = GanStep(g, d, teacher, learner, self.averages, dual, passes, config)
        self.terms = self._step.terms

    def _place(self, network: M) -> M:
        return network.to(self.world.device, self.dtype).to(memory_format=LAYOUT)

    def step(self, batches: Sequence[Sequence[Batch]], now: Now, images_seen: int) -> Terms:
        config, (pieces,) = self.config, batches
        before, after = (
            schedule.iteration(self.plan, clock, self.batches_per_step)
            for clock in (images_seen, images_seen + now.batch_size)
        )
        seen = [reals(b, config.data, config.seed, now, self.world.device, self.dtype) for b in pieces]
        r1_weight = schedule.r1_weight(config.r1, config.r1_interval, before, max(after, before + 1))
        return self._step(seen, r1_weight, images_seen, now.batch_size)


class GanStage(GanTraining):
    """Stage 2: GAN, InfoGAN, cGAN or ID-GAN. frozen: the encoder that gives the code, where it is a posterior's."""

    def __init__(self, config: GanConfig, world: World, start: Start = FRESH) -> None:
        self.data, self.frozen = _open_inputs(config, world, start)
        self.first = _ahead(config, start)[0].first
        self.facts = self.data.facts | ({"vae": self.frozen.sha256} if self.frozen else {})
        encoder = self.frozen.on(world.device, DTYPES[config.precision]) if self.frozen else None
        super().__init__(config, world, self.data.channels, encoder)

    @torch.no_grad()
    def samples(self, now: Now) -> Tensor:
        """The first averaged generator with fixed noise, at codes of the first reals where codes are a posterior's."""
        at = torch.arange(SHOWN, device=self.world.device)
        s = normal(self.config.seed, Purpose.EVAL_NUISANCE, at, (self.config.s_dim,)).to(self.dtype)
        c = normal(self.config.seed, Purpose.EVAL_CODE, at, (self.config.c_dim,)).to(self.dtype)
        if self.q is not None:
            twin = shown(self.data, SHOWN).to(self.world.device, self.dtype) / 127.5 - 1
            mean, logvar = self.q(twin)
            s, c = s[: len(twin)], sample_posterior(mean, logvar, c[: len(twin)])
        alpha = None if now.alpha is None else torch.full((), now.alpha, device=s.device, dtype=self.dtype)
        z = torch.cat((s, c), 1)
        average = self.averages.network()
        return torch.cat(
            [_uint8((average(row, now.resolution, alpha) + 1) / 2) for row in in_passes(z, now.resolution)]
        )


def _uint8(images: Tensor) -> Tensor:
    """Images in [0, 1] as a file has them, on the CPU: a grid of large ones is kept in no other form."""
    return (images.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def _ahead(config: GanConfig, start: Start) -> list[Phase]:
    """What the run still comes to: a stage that is over need not fit the processes of today."""
    plan = schedule.phases(config.resolution, config.batch_size, config.growth)
    return schedule.ahead(plan, start.images_seen, schedule.interval(config.schedule.total_kimg))


def _encoder(path: Path, start: Start) -> frozen.Frozen:
    try:
        return frozen.load(path)
    except UserError as error:
        kept = frozen.kept(start.run) if start.run else None
        if kept is None:
            raise
        raise UserError(f"{error}; the encoder that this run started with is kept as vae={kept}") from None


def _open_inputs(config: GanConfig, world: World, start: Start) -> tuple[Data, frozen.Frozen | None]:
    """Data and the frozen encoder, or one error with everything that does not fit."""
    plan = _ahead(config, start)
    problems = Problems(split_problems(config, plan, world))
    sizes = [phase.resolution for phase in plan]
    data = problems.collect(lambda: open_data(config.data, config.seed, sizes, config.code_source == "posterior"))
    path = config.vae
    q = problems.collect(lambda: _encoder(path, start)) if path is not None else None
    if q and q.c_dim != config.c_dim:
        problems.add(f"c_dim: the config has {config.c_dim}, the encoder of {path} has {q.c_dim}; set c_dim={q.c_dim}")
    if q and data and q.channels != data.channels:
        problems.add(
            f"vae: {path} sees {q.channels} channels, the data {data.channels}; train stage 1 on the same "
            "data.path and data.variant"
        )
    if data and not problems.found:  # else the step cannot be tried
        problems.found += _memory_problems(config, data.channels, q, world, start)
    if data and (missing := weights_problem(config, data.main.manifest.data_set)):
        problems.add(missing)
    if data and data.main.manifest.data_set == "dsprites":
        for key in ("flip", "dequantise"):
            if getattr(config.data, key):
                problems.add(f"data.{key}: true, but the dSprites family has neither; set data.{key}=false")
    problems.stop()
    assert data is not None
    return data, q


def _memory_problems(
    config: GanConfig, channels: int, q: frozen.Frozen | None, world: World, start: Start
) -> list[str]:
    """Tell how much memory the run will need; refuse what cannot fit."""
    encoder = q.on(torch.device("cpu"), DTYPES[config.precision]) if q else None

    def build(config: GanConfig, world: World, encoder: nn.Module | None) -> GanTraining:
        return GanTraining(config, world, channels, encoder)

    estimator = estimate.Estimator(build, encoder, channels, world, lambda config: _ahead(config, start))
    free = estimate.free_bytes(world)
    need = estimator.need(config)
    if world.is_main:
        log.info(need.line(free))
    problem = None if free is None else estimator.problem(config, need, free)
    return [problem] if problem else []


class Problems:
    """Everything that is wrong, raised at once."""

    def __init__(self, found: list[str]) -> None:
        self.found = found

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
