"""Shared by the tests of every strategy: a step with everything that is hard to split, its batches, and ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from tests.reference import plain
from tests.support import processes
from trainer.config.schema import GanConfig
from trainer.config.sections import CheckpointingConfig
from trainer.distributed.world import World
from trainer.steps import schedule
from trainer.steps.batches import Reals
from trainer.steps.gan_step import GanStep, Penalties

BATCH, LABELS = 12, 3
STRATEGIES = ["ddp", "fsdp2", "zero1", "zero2", "zero3"]
EXACT = {"ddp": torch.float64, "fsdp2": torch.float64}  # DeepSpeed keeps its copies in fp32
BOUND = {torch.float64: 1e-9, torch.float32: 1e-4}
ITERATIONS = [(8, None), (8, None), (16, 0.4), (16, 0.7), (16, None), (16, None)]  # px and alpha: it grows


def config_of(strategy: str, **more: object) -> GanConfig:
    """A ResNet that grows, with a bottleneck, an average, lazy R1 and two micro-batches a rank."""
    optimizer = {"name": "rmsprop", "lr": 1e-4, "lr_schedule": [[0, 1], [0.06, 0.5]]}
    optimizers = {"optimizer_g": optimizer, "optimizer_d": optimizer}
    return plain.grown_config("ID-GAN", strategy=strategy, r1_interval=2, **optimizers, **more)


def batches(dtype: torch.dtype, labelled: bool = False) -> list[Reals]:
    """Return a whole batch for each iteration, which 1, 2 and 3 ranks can split in two pieces each."""
    classes = torch.arange(BATCH) % LABELS
    y = torch.nn.functional.one_hot(classes, LABELS).to(dtype) if labelled else None
    noise, whole = torch.Generator().manual_seed(1), []
    for i, (size, alpha) in enumerate(ITERATIONS):
        shapes = ((BATCH, 1, size, size), (BATCH, 1, 64, 64))
        images, encoder_images = (
            (torch.rand(s, generator=noise, dtype=torch.float64) * 2 - 1).to(dtype) for s in shapes
        )
        fade = None if alpha is None else torch.tensor(alpha, dtype=dtype)
        whole.append(Reals(torch.arange(BATCH) + i * BATCH, images, encoder_images, fade, y))
    return whole


def step_of(config: GanConfig, checkpointed: bool, dtype: torch.dtype, world: World) -> GanStep:
    """Build the step of a config under its strategy. checkpointed: recompute the blocks from 8 px on."""
    if checkpointed:  # R1 then takes its two passes
        config = config.model_copy(update={"checkpointing": CheckpointingConfig(from_resolution=8)})
    gan = plain.grown_networks(config, LABELS if config.labels else 0)
    for network in (gan.G, gan.D, gan.q):
        network.to(dtype)
    return plain.gan_step(config, gan, world)


def train(step: GanStep, world: World, count: int, dtype: torch.dtype, part: slice = slice(None)) -> list[float]:
    """Run a part of the iterations, each in `count` micro-batches a rank. Returns G's losses, means over the ranks."""
    losses = []
    for i in range(len(ITERATIONS))[part]:
        share = plain.pieces(batches(dtype, step.config.labels is not None)[i], world.size)[world.rank]
        weights = [schedule.lazy_weight(w, step.config.r1_interval, i, i + 1) for w in (step.config.r1, step.config.r2)]
        terms = step(plain.pieces(share, count), Penalties(*weights), i * BATCH, BATCH)
        losses.append(float(world.all_reduce_mean_(terms["loss_g"].clone())))
    return losses


def everything(step: GanStep) -> dict[str, Tensor]:
    """Return everything that a checkpoint holds, as whole tensors."""
    state = step.g.state_dict() | step.d.state_dict() | step.averages.state_dict()
    return {name: (t.full_tensor() if isinstance(t, DTensor) else t).clone() for name, t in state.items()}


def held(step: GanStep) -> dict[str, int]:
    """Return the bytes of parameters and of optimizer state on this rank."""
    local = [t.to_local() if isinstance(t, DTensor) else t for e in (step.g, step.d) for t in e.shards().values()]
    states = [s for e in (step.g, step.d) for state in e.optimizer.state.values() for s in state.values()]
    states = [s.to_local() if isinstance(s, DTensor) else s for s in states]
    return {"parameters": sum(t.nbytes for t in local), "optimizer": sum(t.nbytes for t in states)}


def run(target: Any, folder: Path, *args: Any, size: int = 2) -> None:
    """Run target(*args, folder) on `size` ranks, and fail with what they printed where one fails."""
    port = str(processes.free_port())
    ranks = [
        processes.start(target, (*args, str(folder)), folder / f"logs{r}", processes.rank_env(r, size, port))
        for r in range(size)
    ]
    for rank in ranks:
        assert rank.wait(240) == 0, rank.err
