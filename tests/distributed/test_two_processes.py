"""One process and two give the same parameters, and every launcher starts what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.trainer.helpers import GAN, VAE, finish, largest_gap, newest, overrides, train


def train_two(stage: str, data: Path, run: Path, steps: int, **more: object) -> None:
    argv = [stage, VAE if stage == "vae" else GAN, *overrides(data, run, steps, processes=2, **more)]
    for rank in processes.ranks(2, "trainer", argv, run.parent / "logs"):
        assert rank.wait() == 0, rank.err


@pytest.fixture(scope="module")
def vae(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage 1 run for stage 2 to start from."""
    run = tmp_path_factory.mktemp("vae") / "vae"
    finish(train("vae", sprites, run, 5))
    return run


@pytest.mark.parametrize(
    ("stage", "precision", "steps", "bound"),
    [
        ("vae", "float64", 20, 1e-9),
        ("gan", "float64", 20, 1e-9),
        ("vae", "float32", 20, 1e-4),
        ("gan", "float32", 5, 1e-4),
    ],
)
def test_two_processes_give_the_parameters_of_one(
    stage: str, precision: str, steps: int, bound: float, sprites: Path, vae: Path, tmp_path: Path
) -> None:
    more = {"precision": precision, **({"vae": vae} if stage == "gan" else {})}
    finish(train(stage, sprites, tmp_path / "one", steps, **more))
    train_two(stage, sprites, tmp_path / "two", steps, **more)
    gap, name = largest_gap(newest(tmp_path / "one"), newest(tmp_path / "two"))
    assert gap < bound, f"{name}: {gap}"


def test_a_run_goes_on_at_another_number_of_processes(sprites: Path, vae: Path, tmp_path: Path) -> None:
    more = {"precision": "float64", "vae": vae, "s_dim": 4}
    finish(train("gan", sprites, tmp_path / "one", 15, **more))
    finish(train("gan", sprites, tmp_path / "mixed", 5, **more))
    train_two("gan", sprites, tmp_path / "mixed", 10, **more)
    finish(train("gan", sprites, tmp_path / "mixed", 15, **more))
    gap, name = largest_gap(newest(tmp_path / "one"), newest(tmp_path / "mixed"))
    assert gap < 1e-9, f"{name}: {gap}"


def test_another_number_of_processes_than_the_config_names_stops_at_once(sprites: Path, tmp_path: Path) -> None:
    running = finish(train("vae", sprites, tmp_path / "run", 5, processes=2), 2)
    for word in ("processes", "asks for 2", "started 1", "accelerate launch --multi_gpu --num_processes 2"):
        assert word in running.err
    assert "Traceback" not in running.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--nproc_per_node", "2", "--master_port"],
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port"],
    ],
)
def test_real_launchers_start_two(launcher: list[str], sprites: Path, tmp_path: Path) -> None:
    finish(train("vae", sprites, tmp_path / "one", 5))
    port = str(processes.free_port())
    argv = ["-m", "trainer", "vae", VAE, *overrides(sprites, tmp_path / "two", 5, processes=2)]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, port, *argv],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    gap, name = largest_gap(newest(tmp_path / "one"), newest(tmp_path / "two"))
    assert gap < 1e-4, name
