"""One process and two give the same parameters, and every launcher starts what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.data_sets import make_dsprites
from tests.support.training import (
    CONFIGS,
    GAN,
    VAE,
    differences,
    finish,
    largest_gap,
    newest,
    overrides,
    stage_of,
    train,
    train_system,
)
from trainer.reporting.stats_file import read_stats


def train_two(stage: str, data: Path, run: Path, steps: int, config: str = "", **more: object) -> None:
    config = config or (VAE if stage == "vae" else GAN)
    argv = [stage, config, *overrides(data, run, steps, config, processes=2, **more)]
    for rank in processes.ranks(2, "trainer", argv, run.parent / "logs"):
        assert rank.wait() == 0, rank.err


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
    """Takes more than ten seconds: up to twenty iterations in float64, by one process and by two."""
    more = {"precision": precision, **({"vae": vae} if stage == "gan" else {})}
    finish(train(stage, sprites, tmp_path / "one", steps, **more))
    train_two(stage, sprites, tmp_path / "two", steps, **more)
    gap, name = largest_gap(newest(tmp_path / "one"), newest(tmp_path / "two"))
    assert gap < bound, f"{name}: {gap}"
    if stage == "vae":  # a count over the global batch, not a mean of the processes' own counts
        told = [[tick["active_latents"] for tick in read_stats(tmp_path / run)] for run in ("one", "two")]
        assert told[0] == told[1]
        assert all(value % 1 == 0 for value in told[0])


@pytest.mark.parametrize("system", ["factor_vae", "infogan", "cgan"])
def test_two_processes_give_the_parameters_of_one_in_the_other_systems(
    system: str, sprites: Path, vae: Path, tmp_path: Path
) -> None:
    """FactorVAE permutes over the global batch, InfoGAN's q is a third network that processes average.

    Takes more than ten seconds: ten iterations in float64, by one process and by two.
    """
    more = {"precision": "float64", **({"vae": vae} if system == "cgan" else {})}
    finish(train_system(system, sprites, tmp_path / "one", 10, **more))
    train_two(stage_of(system), sprites, tmp_path / "two", 10, str(CONFIGS / f"{system}.yaml"), **more)
    one, two = newest(tmp_path / "one"), newest(tmp_path / "two")
    gap, name = largest_gap(one, two)
    assert gap < 1e-9, f"{name}: {gap}"
    assert int(one["images_seen"]) == int(two["images_seen"]) == 160 * (2 if system == "factor_vae" else 1)


def test_a_run_goes_on_at_another_number_of_processes(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Takes more than ten seconds: 30 iterations in float64 in four starts."""
    more = {"precision": "float64", "vae": vae, "s_dim": 4}
    finish(train("gan", sprites, tmp_path / "one", 15, **more))
    finish(train("gan", sprites, tmp_path / "mixed", 5, **more))
    train_two("gan", sprites, tmp_path / "mixed", 10, **more)
    finish(train("gan", sprites, tmp_path / "mixed", 15, **more))
    gap, name = largest_gap(newest(tmp_path / "one"), newest(tmp_path / "mixed"))
    assert gap < 1e-9, f"{name}: {gap}"


def test_zero3_starts_and_trains_as_for_a_user(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """The whole command: the estimate of memory on fake tensors, and then DeepSpeed, in the same processes."""
    settings = overrides(sprites, tmp_path / "run", 1, vae=vae, processes=2, strategy="zero3")
    for rank in processes.ranks(2, "trainer", ["gan", GAN, *settings], tmp_path / "logs", estimate=True):
        finish(rank)
    assert newest(tmp_path / "run")["images_seen"] == 16


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
    """Takes more than ten seconds: three interpreters import torch."""
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


def test_a_resume_at_the_same_number_of_processes_is_bit_for_bit(sprites: Path, vae: Path, tmp_path: Path) -> None:
    more = {"vae": vae, "s_dim": 4, "schedule__tick_kimg": 0.064}
    train_two("gan", sprites, tmp_path / "straight", 12, **more)
    for steps in (6, 12):
        train_two("gan", sprites, tmp_path / "run", steps, **more)
    a, b = newest(tmp_path / "straight"), newest(tmp_path / "run")
    assert [name for name in differences(a, b) if not name.startswith("stats.")] == []
    losses = [
        [json.loads(line)["loss_g"] for line in (tmp_path / name / "stats.jsonl").read_text().splitlines()]
        for name in ("straight", "run")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert len(losses[0]) == 3


def test_an_error_of_one_process_is_told_by_all_and_none_waits(sprites: Path, tmp_path: Path) -> None:
    """Rank 1 cannot read the data: both leave with 2 and the message, and so does exit.json."""
    port = str(processes.free_port())
    run = tmp_path / "run"
    running = []
    for rank, data in enumerate((sprites, tmp_path / "nowhere")):
        argv = ["vae", VAE, *overrides(data, run, 5)]
        env = processes.rank_env(rank, 2, port)
        running.append(processes.command("trainer", argv, tmp_path / f"rank{rank}", env))
    for process in running:
        assert process.wait(60) == 2, process.err
        assert "nowhere: no such folder" in process.err
        assert "Traceback" not in process.err
    assert json.loads((run / "exit.json").read_text())["code"] == 2


def test_a_signal_to_one_process_stops_all_after_the_same_step(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    both = processes.ranks(2, "trainer", ["vae", VAE, *overrides(sprites, run, 2000)], tmp_path / "logs")
    while not (run / "stats.jsonl").exists():
        time.sleep(0.01)
    both[1].kill(signal.SIGTERM)
    assert [process.wait(60) for process in both] == [75, 75]
    left = json.loads((run / "exit.json").read_text())
    assert left["code"] == 75
    assert "SIGTERM" in left["reason"]
    assert newest(run)["images_seen"] > 0


def test_a_shard_that_one_process_cannot_read_ends_both(sprites: Path, tmp_path: Path) -> None:
    data = make_dsprites(tmp_path / "data", count=64, per_shard=64)
    shard = data / "64" / "00000.tar"
    content = bytearray(shard.read_bytes())
    offset = content.find(b"\x89PNG", len(content) // 2)
    content[offset : offset + 60] = bytes(60)
    times = shard.stat()
    shard.write_bytes(content)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    both = processes.ranks(2, "trainer", ["vae", VAE, *overrides(data, tmp_path / "run", 50)], tmp_path / "logs")
    for process in both:
        assert process.wait(60) == 2, process.err
        assert str(shard) in process.err
        assert "cannot be decoded" in process.err
        assert "Traceback" not in process.err
