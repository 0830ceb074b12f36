"""Whole runs on the GPU: a resume that is bit for bit; and how fast an iteration is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.step import SIZES

from . import checks


@pytest.mark.parametrize("stage", checks.RESUMED)
def test_a_resume_is_bit_for_bit(stage: str, device: torch.device, sprites: Path, vae: Path, tmp_path: Path) -> None:
    checks.a_resume_is_bit_for_bit(stage, device, sprites, vae, tmp_path)


def test_a_fast_run_resumes(device: torch.device, sprites: Path, vae: Path, tmp_path: Path) -> None:
    checks.a_fast_run_resumes(device, sprites, vae, tmp_path)


@pytest.mark.parametrize("resolution", [64, 256, 1024])
def test_images_per_second(resolution: int, device: torch.device, capsys: pytest.CaptureFixture[str]) -> None:
    """No promise: the table is what it is for."""
    with capsys.disabled():
        assert checks.speed(SIZES[resolution], device, rounds=5) > 0
