"""Two launchers on this machine stand for two nodes: they meet, train one run, and equal one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.training import VAE, finish, largest_gap, newest, overrides, train


def node(rank: int, port: str, argv: list[str], folder: Path, *more: str) -> subprocess.Popen[str]:
    """`accelerate launch` as node `rank` of two, one process each."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/cpu.yaml",
        "--num_machines", "2", "--num_processes", "2", "--machine_rank", str(rank),
        "--main_process_ip", "127.0.0.1", "--main_process_port", port, *more, "-m", "trainer", *argv,
    ]  # fmt: skip
    folder.mkdir(exist_ok=True)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=open(folder / f"node{rank}", "w"), text=True, env=env)


@pytest.mark.slow
def test_two_launchers_train_one_run(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Takes more than ten seconds: four interpreters import torch.

    With fsdp2, which has a group of its own besides that of the launcher, and with the shipped cpu.yaml. The same with
    ddp is tests/cluster/test_jobs.py's test_two_nodes_train_one_run: launchers on two nodes of Slurm.
    """
    more = {"vae": vae, "s_dim": 4, "precision": "float64"}
    finish(train("gan", sprites, tmp_path / "one", 4, **more))
    argv = ["gan", "configs/dsprites/idgan.yaml"]
    argv += overrides(sprites, tmp_path / "two", 4, processes=2, strategy="fsdp2", **more)
    port = str(processes.free_port())
    both = [node(rank, port, argv, tmp_path / "logs") for rank in range(2)]
    for rank, launcher in enumerate(both):
        assert launcher.wait(240) == 0, (tmp_path / "logs" / f"node{rank}").read_text()
    gap, name = largest_gap(newest(tmp_path / "one"), newest(tmp_path / "two"))
    assert gap < 1e-9, name


@pytest.mark.parametrize("flag", ["--use_fsdp", "--use_deepspeed"])
def test_the_launchers_own_strategies_are_refused(flag: str, sprites: Path, tmp_path: Path) -> None:
    """What the launcher sets in the environment for its workers is all that the trainer sees of them."""
    name = {"--use_fsdp": "ACCELERATE_USE_FSDP", "--use_deepspeed": "ACCELERATE_USE_DEEPSPEED"}[flag]
    argv = ["vae", VAE, *overrides(sprites, tmp_path / "run", 2)]
    running = finish(processes.command("trainer", argv, tmp_path, {name: "true"}), 2)
    assert f"{flag}: " in running.err
    assert "strategy=" in running.err
    assert "Traceback" not in running.err
