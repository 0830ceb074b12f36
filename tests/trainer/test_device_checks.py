"""The bodies of tests/gpu/ on the CPU at a tiny size, so that they are known to run and to find what they are for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.flops import Size
from tests.gpu import checks, exact, numbers
from trainer.distributed import world

CPU = torch.device("cpu")


@pytest.mark.parametrize("system", exact.VAES)
def test_stage_1_in_fp32_is_the_plain_iteration(system: str) -> None:
    exact.vae_step(system, CPU)


@pytest.mark.parametrize("system", exact.CONVS)
def test_stage_2_with_the_networks_of_table_a3_in_fp32_is_the_plain_iteration(system: str) -> None:
    exact.conv_step(system, CPU)


@pytest.mark.parametrize("name", exact.RESNETS)
def test_stage_2_with_resnets_in_fp32_is_the_plain_iteration(name: str) -> None:
    exact.resnet_step(name, CPU)


def test_bf16_through_the_stage(sprites: Path, vae: Path) -> None:
    checks.autocast_points_where_fp32_does(CPU, sprites, vae)


def test_fast_through_the_stage(sprites: Path, vae: Path, settings_put_back: None) -> None:
    checks.fast_is_exact_to_rounding(CPU, sprites, vae)


def test_a_fast_run_on_a_named_device(sprites: Path, vae: Path, tmp_path: Path) -> None:
    checks.a_fast_run_resumes(CPU, sprites, vae, tmp_path)


def test_checkpointing_through_the_stage(sprites: Path, vae: Path) -> None:
    checks.checkpointing_leaves_the_gradients(CPU, sprites, vae)


def test_the_peak_with_checkpointing(sprites: Path, vae: Path) -> None:
    checks.checkpointing_lowers_the_peak(CPU, sprites, vae)


def test_channels_last_through_the_stage(sprites: Path, vae: Path) -> None:
    checks.activations_are_channels_last(CPU, sprites, vae)


def test_an_own_encoder_on_its_device(tmp_path: Path) -> None:
    checks.an_own_encoder_moves(CPU, tmp_path)


@pytest.mark.parametrize("stage", ["vae", "gan in bf16"])
def test_a_resume_on_a_named_device(stage: str, sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Stage 2 in fp32, which tests/trainer/steps/test_growth.py resumes at more places, is the same function."""
    checks.a_resume_is_bit_for_bit(stage, CPU, sprites, vae, tmp_path)


def test_the_numbers_of_an_evaluation(sprites: Path, vae: Path, tmp_path: Path) -> None:
    numbers.fid_is_the_cpus(CPU, sprites, vae, tmp_path)


def test_the_speed_of_an_iteration(capsys: pytest.CaptureFixture[str]) -> None:
    assert checks.speed(Size(64, 4, 8, 2, False), CPU, 1) > 0
    assert "images/s" in capsys.readouterr().out


@pytest.fixture
def settings_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As torch comes, before and after."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before
    cudnn.benchmark = False
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.fixture
def a_gpu(settings_put_back: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as `world.connect` can tell."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def as_device(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state = SimpleNamespace(process_index=0, num_processes=1, device=torch.device(device))
    monkeypatch.setattr(world, "PartialState", lambda **_: state)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_run_on_a_gpu_is_set_to_repeat_itself(device: str, a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In full fp32, and where an operation cannot repeat itself with a warning. On the CPU nothing is touched."""
    as_device(device, monkeypatch)
    on_gpu = world.connect(device, None).device.type == "cuda"
    assert on_gpu == (device == "cuda")
    assert torch.are_deterministic_algorithms_enabled() == on_gpu
    assert torch.is_deterministic_algorithms_warn_only_enabled() == on_gpu
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if on_gpu else None)
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == (not on_gpu)


def test_a_fast_run_on_a_gpu_may_round_and_choose(a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    as_device("cuda", monkeypatch)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    world.connect("cuda", None, speed="fast")
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
