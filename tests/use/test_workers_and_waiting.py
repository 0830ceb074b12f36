"""A loader's worker that dies or cannot deliver, a batch that never comes, a process that hangs in an exchange."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from data_shards.read import shared_memory
from data_shards.read.loader import Level
from tests.support import processes
from tests.support.training import VAE, finish, overrides, train
from trainer import batch_stream
from trainer.checkpoints import published
from trainer.distributed import heartbeat
from trainer.steps.vae_step import VaeStep

GONE = 1e9  # images after which a stuck reader would go on: never


def stuck(argv: list[str], after: int, rank: str = "0") -> None:
    """Train; from some sample on, a read does not return."""
    read, count = Level.read_samples, [0]

    def slow(self: Level, *args: Any) -> Any:
        count[0] += 1
        while count[0] > after and os.environ.get("RANK", "0") == rank:
            time.sleep(1)
        return read(self, *args)

    Level.read_samples = slow  # type: ignore[method-assign]
    batch_stream.POLL = 0.2
    processes.module("trainer", argv)


def until(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_is_obeyed_while_a_batch_is_awaited(workers: int, sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    argv = ["vae", VAE, *overrides(sprites, run, 40, data__workers=workers)]
    running = processes.start(stuck, (argv, 7), tmp_path / "logs")
    until(run / "stats.jsonl", '"images_seen": 80')
    time.sleep(0.5)
    running.kill(signal.SIGTERM)
    start = time.monotonic()
    finish(running, 75)
    assert time.monotonic() - start < 30
    assert "SIGTERM at" in json.loads((run / "exit.json").read_text())["reason"]
    assert published.newest(run) is not None


def test_a_batch_that_does_not_come_ends_the_run_with_who_waited_for_what(sprites: Path, tmp_path: Path) -> None:
    run, port = tmp_path / "run", str(processes.free_port())
    argv = ["vae", VAE, *overrides(sprites, run, 40, data__timeout_minutes=0.02)]
    both = [
        processes.start(stuck, (argv, 8, "1"), tmp_path / f"rank{rank}", processes.rank_env(rank, 2, port))
        for rank in range(2)
    ]
    for rank in both:
        assert rank.wait(60) == 1, rank.err
        assert "error: process 1 on " in rank.err
        assert f"for a batch of {sprites} at 64 px (data.timeout_minutes: 0.02)" in rank.err
        assert "step-000000000080 is the last good checkpoint" in rank.err
        assert "Traceback" not in rank.err
    assert json.loads((run / "exit.json").read_text())["code"] == 1


@pytest.mark.parametrize(("number", "words"), [(signal.SIGKILL, "out of memory?"), (signal.SIGBUS, "/dev/shm")])
def test_a_killed_worker_ends_the_run(number: signal.Signals, words: str, sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    running = train("vae", sprites, run, 10**6, data__workers=1)
    until(run / "stats.jsonl", '"images_seen": 80')
    children = Path(f"/proc/{running.pid}/task")
    pids = [pid for task in children.iterdir() for pid in (task / "children").read_text().split()]
    assert len(pids) == 1, pids
    os.kill(int(pids[0]), number)
    finish(running, 2)
    assert f"data.workers: a worker was killed by {number.name}" in running.err
    assert words in running.err
    assert "Traceback" not in running.err


@pytest.mark.root
@pytest.mark.parametrize("checked", [True, False])  # before the first step; or another program fills it meanwhile
def test_a_small_dev_shm_is_named_within_seconds(checked: bool, sprites: Path, tmp_path: Path) -> None:
    """In a name space of its own, with a file system of 2 MB there, as a container has one of 64 MB."""
    argv = ["vae", VAE, *overrides(sprites, tmp_path / "run", 10**6, data__workers=2, batch_size=128)]
    skip = "" if checked else "from data_shards.read import shared_memory as s; s.problem = lambda *a: None; "
    program = (
        f"{skip}import sys, runpy; sys.argv = {['trainer', *argv]!r}; runpy.run_module('trainer', run_name='__main__')"
    )
    mount = 'mount -t tmpfs -o size=2m tmpfs /dev/shm && exec "$@"'
    shell = ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-c", program]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert "/dev/shm" in done.stderr
    assert "of 2 MB" in done.stderr
    assert "--shm-size" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_workers_keep_ready_is_compared_with_the_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    assert shared_memory.problem(1000, 2) is None
    problem = shared_memory.problem(10**18, 2)
    assert problem is not None
    assert problem.startswith("data.workers: 2 keep up to 1,000,000,000,000 MB")
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "none")  # another system than Linux
    assert shared_memory.problem(10**18, 2) is None


def hanging(argv: list[str], at: int, stop: bool) -> None:
    """Train; rank 1 leaves the others alone in an iteration: stopped as a whole, or busy for ever."""
    count, step = [0], VaeStep.__call__

    def wrapped(self: VaeStep, *args: Any) -> Any:
        count[0] += 1
        if os.environ["RANK"] == "1" and count[0] == at:
            if stop:
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(GONE)
        return step(self, *args)

    VaeStep.__call__ = wrapped  # type: ignore[method-assign]
    heartbeat.BEAT = 1.0
    processes.module("trainer", argv)


@pytest.mark.parametrize(("stop", "words"), [(True, "is silent"), (False, "lives, but takes part in no exchange")])
def test_a_process_that_hangs_is_named_with_the_exchange(stop: bool, words: str, sprites: Path, tmp_path: Path) -> None:
    run, port = tmp_path / "run", str(processes.free_port())
    argv = ["vae", VAE, *overrides(sprites, run, 40, timeout_minutes=0.05)]
    both = [
        processes.start(hanging, (argv, 8, stop), tmp_path / f"rank{rank}", processes.rank_env(rank, 2, port))
        for rank in range(2)
    ]
    try:
        assert both[0].wait(60) == 1, both[0].err
        assert "error: process 0 on " in both[0].err
        assert (
            "waited 3 s for the others in a sum over the processes (timeout_minutes: 0.05): process 1 on" in both[0].err
        )
        assert words in both[0].err
        assert ".cc:" not in both[0].err
        assert "GLHF" not in both[0].err
        assert "step-000000000080 is the last good checkpoint" in both[0].err
        assert "Traceback" not in both[0].err
    finally:
        both[1].kill()
