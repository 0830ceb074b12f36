"""Several tasks of one job, environments that others left, and what a launcher asks for beside the config."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from common.errors import UserError
from tests.support import processes
from tests.support.training import VAE, finish, newest, overrides, train
from trainer.distributed import launch_environment


def start(sprites: Path, run: Path, env: dict[str, str], steps: int = 10) -> processes.Running:
    argv = ["vae", VAE, *overrides(sprites, run, steps)]
    return processes.command("trainer", argv, run.parent / "logs", env)


def test_a_bare_srun_of_two_tasks_is_refused_with_the_command_that_starts_them(sprites: Path, tmp_path: Path) -> None:
    env = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}
    both = [start(sprites, tmp_path / "run", env | {"SLURM_PROCID": str(rank)}) for rank in range(2)]
    for task in both:
        finish(task, 2)
        assert "SLURM_STEP_NUM_TASKS: 2 tasks were started by srun" in task.err
        assert "accelerate launch --multi_gpu --num_processes" in task.err
        assert "Traceback" not in task.err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_second_start_in_one_allocation_is_kept_out_and_spoils_nothing(sprites: Path, tmp_path: Path) -> None:
    run, env = tmp_path / "run", {"SLURM_JOB_ID": "7"}
    first = start(sprites, run, env, steps=10**6)
    while not (run / "stats.jsonl").exists():
        assert first.process.is_alive(), first.err
    second = finish(start(sprites, run, env), 2)
    assert "is in use by Slurm job 7, process" in second.err
    first.kill(15)
    finish(first, 75)
    finish(start(sprites, run, env, steps=2))  # in the same allocation, once the first is gone
    ticks = (run / "stats.jsonl").read_text().splitlines()
    assert len(ticks) == len(set(ticks))
    assert newest(run)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (
            {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},
            ["MASTER_ADDR: not set", "MASTER_PORT: not set", "unset"],
        ),
        ({"RANK": "0", "WORLD_SIZE": "2"}, ["RANK=0, WORLD_SIZE=2", "LOCAL_RANK: not set", "accelerate launch"]),
        (
            processes.rank_env(0, 2, "71234"),
            ["MASTER_PORT: 71234 is not between 1 and 65535"],
        ),  # 10000 + a job's number
        (processes.rank_env(0, 2, "29500") | {"MASTER_ADDR": "no-such.invalid"}, ["MASTER_ADDR: 'no-such.invalid'"]),
        ({"LOCAL_RANK": "0"}, ["RANK: not set", "WORLD_SIZE: not set", "unset LOCAL_RANK"]),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, ["OMPI_COMM_WORLD_SIZE: 2 tasks", "mpirun"]),
        ({"PMI_SIZE": "4", "PMI_RANK": "1"}, ["PMI_SIZE: 4 tasks", "an MPI launcher"]),
        (
            {"ACCELERATE_MIXED_PRECISION": "bf16"},
            ["--mixed_precision: the launcher asks for bf16", "autocast=bfloat16"],
        ),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, ["--dynamo_backend", "compile=true"]),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, ["--gradient_accumulation_steps", "micro_batch"]),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, ["--use_megatron_lm", "strategy"]),
        ({"ACCELERATE_USE_FSDP": "true"}, ["--use_fsdp", "strategy=fsdp2"]),
        (
            {"ACCELERATE_USE_CPU": "False", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
            ["MASTER_ADDR: 127.0.0.1 is set and RANK is not", "add --multi_gpu", "unset MASTER_ADDR MASTER_PORT"],
        ),
    ],
)
def test_an_environment_that_is_not_complete_or_asks_for_more_is_refused(env: dict[str, str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        launch_environment.check(env)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"MASTER_ADDR": "a", "MASTER_PORT": "1"},  # of a job script: this process is no rank
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"},  # in the script of a job, before any srun
        {"SLURM_STEP_NUM_TASKS": "1", "PMI_SIZE": "1", "OMPI_COMM_WORLD_SIZE": "1"},
        {"SLURM_STEP_NUM_TASKS": "2", **processes.rank_env(1, 2, "29500")},  # accelerate in each task
        {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_USE_CPU": "False"},
    ],
)
def test_what_launchers_leave_otherwise_is_taken(env: dict[str, str]) -> None:
    launch_environment.check(env)


def test_a_start_that_waits_for_others_says_so_and_obeys_a_signal(sprites: Path, tmp_path: Path) -> None:
    """The variables are all there, left by a program that has ended: nobody will join."""
    running = start(sprites, tmp_path / "run", processes.rank_env(0, 2, str(processes.free_port())))
    deadline = time.monotonic() + 60
    while "waiting for 2 processes at 127.0.0.1:" not in running.err:
        assert running.process.is_alive(), running.err
        assert time.monotonic() < deadline, running.err
        time.sleep(0.1)
    running.kill(signal.SIGTERM)
    finish(running, 75)
    assert "Traceback" not in running.err


def test_a_start_with_the_variables_of_another_program_shows_no_traceback(sprites: Path, tmp_path: Path) -> None:
    running = finish(start(sprites, tmp_path / "run", {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}), 2)
    assert "MASTER_ADDR: not set" in running.err
    assert "Traceback" not in running.err
    assert "RANK" not in os.environ
    finish(train("vae", sprites, tmp_path / "run", 1))
