"""Tiny runs of both stages."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader

from tests import processes
from trainer import checkpoint

BATCH = 16
VAE, GAN = "configs/dsprites/beta_vae.yaml", "configs/dsprites/idgan.yaml"


def overrides(data: Path, run: Path, steps: int, **more: object) -> list[str]:
    """Settings of a run of `steps` iterations of 16 images, a tick each, a checkpoint every 5."""
    one = BATCH / 1000
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


def train(stage: str, data: Path, run: Path, steps: int, **more: object) -> processes.Running:
    """Start a tiny run; more: overrides, __ for a dot."""
    config = VAE if stage == "vae" else GAN
    return processes.command("trainer", [stage, config, *overrides(data, run, steps, **more)], run.parent / "logs")


def finish(running: processes.Running, code: int = 0) -> processes.Running:
    """Wait, and expect an exit code."""
    found = running.wait()
    assert found == code, f"exit code {found}, expected {code}\n{running.err}"
    return running


def tensors(step: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, read through its own metadata."""
    found = FileSystemReader(step).read_metadata().state_dict_metadata
    like = {name: torch.empty(m.size, dtype=m.properties.dtype) for name, m in found.items()}  # type: ignore[union-attr]
    return checkpoint.load_tensors(step, like)


def newest(run: Path) -> dict[str, Tensor]:
    step = checkpoint.newest(run)
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
