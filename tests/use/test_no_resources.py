"""Memory, processes and open files that a machine or a container does not give."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from common import cli
from common.errors import UserError
from data_shards.read import shared_memory
from data_shards.read.loader import Level, batches, open_dataset
from tests.support import processes
from tests.support.evaluating import refused
from tests.support.training import VAE, overrides
from trainer.steps.vae_step import VaeStep

TOO_MUCH = 2**60  # bytes


def greedy(argv: list[str], at: int, where: str) -> None:
    """Train; the step, or the reader of a batch, asks for more memory than there is."""
    owner, name = (VaeStep, "__call__") if where == "step" else (Level, "read_samples")
    count, original = [0], getattr(owner, name)

    def wrapped(self: Any, *args: Any) -> Any:
        count[0] += 1
        if count[0] == at:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return original(self, *args)

    setattr(owner, name, wrapped)
    processes.module("trainer", argv)


def test_a_step_without_memory_says_at_which_settings(sprites: Path, tmp_path: Path) -> None:
    argv = ["vae", VAE, *overrides(sprites, tmp_path / "run", 40, micro_batch=8)]
    running = processes.start(greedy, (argv, 8, "step"), tmp_path / "logs")
    words = ("out of memory on process 0 at 64 px with 16 images, in passes of 8", "lower micro_batch")
    refused(running, *words, "allocate memory", "step-000000000080 is the last good checkpoint")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_reader_without_memory_ends_the_run(workers: int, sprites: Path, tmp_path: Path) -> None:
    argv = ["vae", VAE, *overrides(sprites, tmp_path / "run", 40, data__workers=workers)]
    running = processes.start(greedy, (argv, 8, "reader"), tmp_path / "logs")
    refused(running, "data.workers: no memory for a batch", "allocate memory", "lower data.workers or batch_size")


@contextmanager
def open_files_at_most(more: int) -> Iterator[None]:
    """Let this process open so many more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    held = [os.dup(0) for _ in range(highest)]  # no number below the limit is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1 + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in held:
            os.close(number)


def read(sprites: Path, workers: int) -> Iterator[Any]:
    return batches(open_dataset(sprites, 64), seed=0, start=0, batch_size=8, workers=workers)


@pytest.mark.filterwarnings("error")
def test_too_few_open_files_for_the_workers(sprites: Path) -> None:
    words = r"data.workers: a worker could not be started \(Too many open files\); raise .* \(ulimit -n\)"
    with open_files_at_most(6), pytest.raises(UserError, match=words):
        next(read(sprites, 2))


def test_too_few_open_files_for_their_batches(sprites: Path) -> None:
    stream = read(sprites, 1)
    held = [next(stream)]  # each batch that is held holds its files of shared memory open
    with open_files_at_most(2), pytest.raises(UserError, match=r"cannot be taken .*\(ulimit -n\)"):
        held.extend(stream)


def test_a_worker_that_may_not_be_forked_names_the_limit(sprites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", refuse)
    words = r"a worker could not be started \(Resource temporarily unavailable\); raise .*ulimit -u"
    with pytest.raises(UserError, match=words):
        next(read(sprites, 2))


def test_what_is_no_full_disk_is_not_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: torch.Tensor) -> None:
        raise RuntimeError(
            "unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)"
        )

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    with pytest.raises(RuntimeError, match="Too many open files"):
        shared_memory.move_to([torch.zeros(4)])


def test_every_command_says_that_memory_ran_out() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(TOO_MUCH, dtype=torch.uint8)
    code, message = cli.explain(caught.value)
    assert code == 2
    assert message is not None
    assert message.startswith("out of memory: ")
    assert "allocate memory" in message
    assert "micro_batch" in message
    assert cli.explain(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))[0] == 2
    assert cli.explain(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) == (1, None)
