"""Tiny runs of both stages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader

from trainer.checkpoints import published
from trainer.checkpoints.load import load_tensors

from . import processes

BATCH = 16
CONFIGS = Path("configs/dsprites")
VAE, GAN = str(CONFIGS / "beta_vae.yaml"), str(CONFIGS / "idgan.yaml")

STAGE_1 = {"loss", "reconstruction", "kl", "active_latents", "beta", "grad_norm"}
STAGE_2 = {"loss_d_real", "loss_d_fake", "r1", "loss_g", "logit_real", "logit_fake", "grad_norm_d", "grad_norm_g"}
STAGE_2 |= {"sample_spread"}  # which the watch measures at every tick
TERMS = {
    "vae": STAGE_1,
    "beta_vae": STAGE_1,
    "factor_vae": STAGE_1 | {"total_correlation", "loss_critic", "grad_norm_critic"},
    "gan": STAGE_2,
    "infogan": STAGE_2 | {"code_nll", "grad_norm_q"},
    "cgan": STAGE_2,
    "idgan_no_distill": STAGE_2,
    "idgan": STAGE_2 | {"code_nll"},
}
"""What each system of configs/dsprites/ reports, written out by hand."""
TIMING = {"seconds_per_kimg", "eta_seconds", "data_wait", "memory_gb", "processes", "speed"}


def stage_of(system: str) -> str:
    """The trainer's command for a config of configs/dsprites/."""
    return "vae" if system.endswith("vae") else "gan"


def batches_of(config: str) -> int:
    """Batches of the stream that one iteration takes: FactorVAE permutes a second one."""
    return 2 if Path(config).stem == "factor_vae" else 1


def overrides(data: Path, run: Path, steps: int, config: str = "", **more: object) -> list[str]:
    """Settings of a run of `steps` iterations of 16 images, a tick each, a checkpoint every 5."""
    one = BATCH * batches_of(config) / 1000
    values = {
        "data.path": data,
        "run": run,
        "batch_size": BATCH,
        "schedule.total_kimg": one * steps,
        "schedule.tick_kimg": one,
        "schedule.save_kimg": one * 5,
        "schedule.sample_kimg": 1000,
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return [f"{key}={value}" for key, value in values.items()]


def train(
    stage: str, data: Path, run: Path, steps: int, config: str = "", estimate: bool = False, **more: object
) -> processes.Running:
    """Start a tiny run.

    config: another one than beta-VAE's or ID-GAN's; estimate: see processes.start; more: overrides, __ for a dot.
    """
    config = config or (VAE if stage == "vae" else GAN)
    argv = [stage, config, *overrides(data, run, steps, config, **more)]
    return processes.command("trainer", argv, run.parent / "logs", estimate=estimate)


def train_system(system: str, data: Path, run: Path, steps: int, **more: object) -> processes.Running:
    """Start a tiny run of a config of configs/dsprites/, by its name."""
    return train(stage_of(system), data, run, steps, str(CONFIGS / f"{system}.yaml"), **more)


def two_at_a_time(starts: Sequence[Callable[[], processes.Running]]) -> list[processes.Running]:
    """Start processes on both cores; all of them, ended, in order."""
    ended: list[processes.Running] = []
    for first in range(0, len(starts), 2):
        pair = [start() for start in starts[first : first + 2]]
        for running in pair:
            running.process.join(240)
        ended += pair
    return ended


def finish(running: processes.Running, code: int = 0, seconds: float = 240) -> processes.Running:
    """Wait, and expect an exit code."""
    found = running.wait(seconds)
    assert found == code, f"exit code {found}, expected {code}\n{running.err}"
    return running


def tensors(step: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, read through its own metadata."""
    found = FileSystemReader(step).read_metadata().state_dict_metadata
    like = {name: torch.empty(m.size, dtype=m.properties.dtype) for name, m in found.items()}  # type: ignore[union-attr]
    return load_tensors(step, like)


def newest(run: Path) -> dict[str, Tensor]:
    step = published.newest(run)
    assert step is not None, os.listdir(run)
    return tensors(step)


def differences(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    """Names of tensors that are not equal bit for bit."""
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def largest_gap(a: dict[str, Tensor], b: dict[str, Tensor]) -> tuple[float, str]:
    """The largest ||a - b|| / max(||a||, 1e-8) over floating tensors, and whose it is."""
    gaps = {
        name: float((a[name] - b[name]).norm() / a[name].norm().clamp_min(1e-8))
        for name in a
        if a[name].is_floating_point() and a[name].dim() and not name.startswith("stats.")
    }
    worst = max(gaps, key=lambda name: gaps[name])
    return gaps[worst], worst
