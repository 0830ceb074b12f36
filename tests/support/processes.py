"""Commands as real processes, forked from one that has imported torch once: 20 ms instead of seconds a start."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

from trainer import preflight

FORKS = multiprocessing.get_context("forkserver")


def start_server() -> None:
    """Start the process that all others are forked from, before anything else in this process starts it.

    There is one in each process. Commands that run in this one have their workers forked from it too, and would
    start it without the imports of tests/support/preload.py: every later fork would then import torch by itself. Does
    nothing where it runs.
    """
    FORKS.set_forkserver_preload(["tests.support.preload"])
    forkserver.ensure_running()


@dataclass
class Running:
    """A started process and the files that its output goes to."""

    process: Any
    out_path: Path
    err_path: Path

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    @property
    def out(self) -> str:
        return self.out_path.read_text()

    @property
    def err(self) -> str:
        return self.err_path.read_text()

    def wait(self, seconds: float = 240) -> int:
        """The exit code; minus the signal's number for a killed process."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"still running after {seconds} s:\n{self.err}")
        return int(self.process.exitcode)

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process.is_alive():
            os.kill(self.pid, number)


def start(
    target: Callable[..., Any],
    args: Sequence[Any],
    folder: Path,
    env: dict[str, str] | None = None,
    estimate: bool = False,
) -> Running:
    """Run target(*args) in a fork whose output goes to files in `folder`.

    estimate: whether a GAN's start estimates its memory as it does for users. That takes an iteration on fake tensors,
    which costs more than a whole run of the tests. One run of each kind has it: a system, an encoder of one's own, a
    shipped config, a resume in a fade, a strategy.
    """
    start_server()
    folder.mkdir(parents=True, exist_ok=True)
    stamp = f"{time.monotonic_ns()}"
    out, err = folder / f"out-{stamp}", folder / f"err-{stamp}"
    process = FORKS.Process(target=_child, args=(target, tuple(args), str(out), str(err), env or {}, estimate))
    process.start()
    running = Running(process, out, err)
    while not err.exists() and process.is_alive():
        time.sleep(0.005)
    return running


def _child(
    target: Callable[..., Any], args: tuple[Any, ...], out: str, err: str, env: dict[str, str], estimate: bool
) -> None:
    for number, path in ((1, out), (2, err)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, number)
    os.environ.update(env)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # the suite is a shell's background job; its runs are not
        signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.set_start_method(None, force=True)  # not that of this process, but what a command has by itself
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    if not estimate:
        mock.patch.object(preflight, "_fit_memory", return_value=({}, [])).start()  # fails where there is no such name
    with measured_lines():
        target(*args)


@contextmanager
def measured_lines() -> Iterator[None]:
    """Add the lines that this process executes to the coverage of the session, where the session measures one."""
    config = os.environ.get("MEASURE_LINES")
    if config is None:
        yield
        return
    from coverage import Coverage

    coverage = Coverage(config_file=config, data_suffix=True)
    coverage.start()
    try:
        yield
    finally:
        coverage.stop()
        coverage.save()


def module(name: str, argv: Sequence[str]) -> None:
    """What `python -m NAME ARGV` does."""
    sys.argv = [name, *argv]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def module_in(folder: str, name: str, argv: Sequence[str]) -> None:
    """The same in another working directory."""
    os.chdir(folder)
    module(name, argv)


def command(
    name: str, argv: Sequence[object], folder: Path, env: dict[str, str] | None = None, estimate: bool = False
) -> Running:
    """Start `python -m NAME ARGV`; estimate: see `start`."""
    return start(module, (name, [str(a) for a in argv]), folder, env, estimate)


def ranks(
    count: int, name: str, argv: Sequence[object], folder: Path, place: Path | None = None, estimate: bool = False
) -> list[Running]:
    """Start `python -m NAME ARGV` as `count` processes of one gloo group, as a launcher would.

    place: the folder to run them in; estimate: see `start`.
    """
    port, args = str(free_port()), (str(place or "."), name, [str(a) for a in argv])
    return [
        start(module_in, args, folder / f"rank{rank}", rank_env(rank, count, port), estimate) for rank in range(count)
    ]


def rank_env(rank: int, count: int, port: str) -> dict[str, str]:
    """What torchrun sets."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }


_PORTS = itertools.count(10_000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))


def free_port() -> int:
    """Below the range that the system hands out by itself, and no other test process's: nobody takes it meanwhile."""
    for port in _PORTS:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable")
