"""Every signal by which a terminal, a scheduler or a person asks a run to stop: it saves and leaves with 75."""

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

from common.signals import name_of, stop_signals
from tests.support import processes
from tests.support.training import VAE, finish, newest, overrides

FAULTS = ["SEGV", "BUS", "FPE", "ILL", "ABRT", "SYS", "PIPE", "KILL", "STOP", "TSTP", "CONT", "CHLD", "WINCH", "TRAP"]


def started(run: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not (run / "stats.jsonl").exists():
        assert time.monotonic() < deadline, run
        time.sleep(0.02)


def ended(run: Path, seconds: float = 60) -> dict[str, Any]:
    """The content of exit.json, once the run has ended."""
    deadline = time.monotonic() + seconds
    while True:
        left: dict[str, Any] = json.loads((run / "exit.json").read_text())
        if left["code"] is not None:
            return left
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_the_list_holds_what_asks_for_a_stop_and_nothing_that_reports_a_fault() -> None:
    names = {name_of(number).removeprefix("SIG") for number in stop_signals()}
    assert names >= {"HUP", "INT", "TERM", "QUIT", "USR1", "USR2", "XCPU", "ALRM", "PWR", "RTMIN", "RTMIN+1", "RTMAX"}
    assert names & {"IO", "POLL"}
    assert not names & set(FAULTS)


def obeying(argv: list[str], number: int) -> None:
    signal.signal(number, signal.SIG_DFL)  # these tests may run under nohup
    processes.module("trainer", argv)


@pytest.mark.parametrize("name", ["HUP", "QUIT", "USR2", "XCPU", "ALRM", "PWR", "IO", "RTMIN+3"])
def test_a_signal_saves(name: str, sprites: Path, tmp_path: Path) -> None:
    offset = int(name.partition("+")[2] or 0)
    number = getattr(signal, f"SIG{name.partition('+')[0]}") + offset
    run = tmp_path / "run"
    argv = ["vae", VAE, *overrides(sprites, run, 10**6, schedule__save_kimg=10**3)]
    running = processes.start(obeying, (argv, number), tmp_path / "logs")
    started(run)
    running.kill(number)
    finish(running, 75)
    left = ended(run)
    assert left["reason"].startswith(f"{name_of(number)} at ")
    assert int(newest(run)["images_seen"]) == int(left["reason"].split()[2])


def ignoring(argv: list[str], number: int) -> None:
    signal.signal(number, signal.SIG_IGN)  # as nohup does before it starts a program
    processes.module("trainer", argv)


def test_a_signal_that_the_parent_ignores_stays_ignored(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    argv = ["vae", VAE, *overrides(sprites, run, 10**6)]
    running = processes.start(ignoring, (argv, signal.SIGHUP), tmp_path / "logs")
    started(run)
    running.kill(signal.SIGHUP)
    seen = (run / "stats.jsonl").read_text().count("\n")
    while (run / "stats.jsonl").read_text().count("\n") < seen + 5:  # it goes on
        assert running.process.is_alive(), running.err
        time.sleep(0.02)
    running.kill(signal.SIGTERM)
    finish(running, 75)
    assert ended(run)["reason"].startswith("SIGTERM")


def test_a_terminal_that_is_gone_takes_no_work_along(sprites: Path, tmp_path: Path) -> None:
    """What `nohup` and an SSH session that closes leave: HUP is ignored, and writing to the terminal fails (EIO)."""
    run = tmp_path / "run"
    argv = ["vae", VAE, *overrides(sprites, run, 10**6, schedule__save_kimg=10**3)]
    master, terminal = os.openpty()
    command = ["nohup", sys.executable, "-m", "trainer", *argv]
    process = subprocess.Popen(command, stdin=terminal, stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    try:
        started(run, 120)
        os.close(master)
        lines = len((run / "stats.jsonl").read_text().splitlines())
        while len((run / "stats.jsonl").read_text().splitlines()) < lines + 20:
            assert process.poll() is None, (run / "exit.json").read_text()
            time.sleep(0.05)
        process.terminate()
        assert process.wait(60) == 75
    finally:
        process.kill()
        process.wait()
    assert ended(run)["reason"].startswith("SIGTERM at ")
    assert newest(run)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGHUP, "SIGHUP at "),  # torchrun passes it on, also under nohup, whose children would ignore it
        (signal.SIGUSR2, "the end of the launcher at "),  # torchrun knows nothing of it, and dies
    ],
)
def test_a_signal_to_torchrun_saves(number: signal.Signals, reason: str, sprites: Path, tmp_path: Path) -> None:
    """torchrun itself: two interpreters import torch."""
    run = tmp_path / "run"
    argv = ["vae", VAE, *overrides(sprites, run, 10**6, schedule__save_kimg=10**3)]
    port = str(processes.free_port())
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "1", "--master_port", port]
    with open(tmp_path / "log", "w") as log:
        launcher = subprocess.Popen(["nohup", *torchrun, "-m", "trainer", *argv], stdout=log, stderr=log)
    try:
        started(run, 120)
        launcher.send_signal(number)
        left = ended(run)
    finally:
        launcher.kill()
        launcher.wait()
    assert left["code"] == 75
    assert left["reason"].startswith(reason), left
    assert int(newest(run)["images_seen"]) == int(left["reason"].split(" at ")[1].split()[0])
