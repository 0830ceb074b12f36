"""Evaluation on the GPU."""

from __future__ import annotations

from pathlib import Path

import torch

from . import numbers


def test_fid_is_the_cpus(device: torch.device, sprites: Path, vae: Path, tmp_path: Path) -> None:
    numbers.fid_is_the_cpus(device, sprites, vae, tmp_path)
