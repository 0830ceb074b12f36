"""What makes large images affordable, on the GPU, and that the layout reaches it."""

from __future__ import annotations

from pathlib import Path

import torch

from . import checks


def test_bf16_gradients_point_where_fp32_gradients_do(device: torch.device, sprites: Path, vae: Path) -> None:
    checks.autocast_points_where_fp32_does(device, sprites, vae)


def test_compiled_gradients_are_eager_ones(device: torch.device, sprites: Path, vae: Path) -> None:
    checks.compiled_gradients_are_eager_ones(device, sprites, vae)


def test_fast_is_exact_to_rounding(device: torch.device, sprites: Path, vae: Path) -> None:
    checks.fast_is_exact_to_rounding(device, sprites, vae)


def test_checkpointing_leaves_the_gradients(device: torch.device, sprites: Path, vae: Path) -> None:
    checks.checkpointing_leaves_the_gradients(device, sprites, vae)


def test_checkpointing_lowers_the_peak(device: torch.device, sprites: Path, vae: Path) -> None:
    checks.checkpointing_lowers_the_peak(device, sprites, vae)


def test_activations_are_channels_last(device: torch.device, sprites: Path, vae: Path) -> None:
    checks.activations_are_channels_last(device, sprites, vae)


def test_an_own_encoder_moves_to_the_gpu(device: torch.device, tmp_path: Path) -> None:
    checks.an_own_encoder_moves(device, tmp_path)
