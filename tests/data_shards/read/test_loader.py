"""What is read at a position does not depend on ranks, workers or where a run began."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from common.errors import UserError
from data_shards.format import image_codec
from data_shards.read import loader
from data_shards.read.dsprites_variants import draw
from data_shards.read.loader import Batch, Level, batches, open_dataset
from tests.support import processes
from tests.support.data_sets import make_dsprites


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dsprites(tmp_path_factory.mktemp("loader") / "set", 50, "128,64", per_shard=16)


@pytest.fixture(scope="module")
def level(root: Path) -> Level:
    return open_dataset(root, 64)


def take(count: int, *levels: Level | None, **options: object) -> list[Batch]:
    defaults = {"seed": 3, "start": 0, "batch_size": 10}
    stream = batches(*levels, **(defaults | options))  # type: ignore[arg-type]
    taken = list(itertools.islice(stream, count))
    stream.close()  # type: ignore[attr-defined]
    return taken


def test_every_image_stands_once_in_every_epoch(level: Level) -> None:
    stream = take(15, level)
    samples = torch.cat([b.samples for b in stream]).reshape(3, 50)
    epochs = torch.cat([b.epochs for b in stream]).reshape(3, 50)
    for epoch in range(3):
        assert sorted(samples[epoch].tolist()) == list(range(50))
        assert (epochs[epoch] == epoch).all()
    assert not torch.equal(samples[0], samples[1])


def test_images_are_those_of_their_samples(level: Level) -> None:
    everything = level.read_samples(np.arange(50))
    for batch in take(6, level, batch_size=12):
        assert torch.equal(batch.images, everything[batch.samples])
        assert batch.images.dtype == torch.uint8


def test_large_images_are_decoded_on_threads_where_torch_has_several(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, decoders = torch.get_num_threads(), set()
    expected = open_dataset(root, 128).read_samples(np.arange(50))

    def decode(data: bytes, channels: int) -> Tensor:
        decoders.add(threading.get_ident())
        return image_codec.decode(data, channels)

    monkeypatch.setattr(loader, "decode", decode)
    shutil.copytree(root, tmp_path / "set")
    level = open_dataset(tmp_path / "set", 128)
    with open(tmp_path / "set/128/00001.tar", "r+b") as tar:
        tar.seek(int(level._table["offset"][20]))
        tar.write(b"broken")
    try:
        for threads, from_px, pooled in ((1, 256, False), (3, 256, False), (1, 128, False), (3, 128, True)):
            torch.set_num_threads(threads)
            monkeypatch.setattr(loader, "_THREADED_FROM", from_px)
            decoders.clear()
            assert torch.equal(level.read_samples(np.arange(16)), expected[:16])
            assert (threading.get_ident() not in decoders) == pooled
            with pytest.raises(UserError, match=r"00001.tar: sample 20 at byte \d+ cannot be decoded"):
                level.read_samples(np.arange(50))
    finally:
        torch.set_num_threads(before)


def test_workers_and_start_change_nothing(level: Level, root: Path) -> None:
    large = open_dataset(root, 128)
    plain = take(9, large, level)
    for some in (
        take(9, large, level, workers=2),
        [*take(4, large, level), *take(5, large, level, start=40, workers=1)],
    ):
        for a, b in zip(plain, some, strict=True):
            for x, y in zip(a, b, strict=True):
                assert isinstance(x, Tensor)
                assert torch.equal(x, y)


def test_ranks_split_positions(level: Level) -> None:
    whole = take(7, level, batch_size=12)
    ranks = [take(7, level, batch_size=12, rank=r, world_size=3) for r in range(3)]
    for k, batch in enumerate(whole):
        for field in ("positions", "samples", "images"):
            joined = torch.cat([getattr(rank[k], field) for rank in ranks])
            assert torch.equal(getattr(batch, field), joined)


def test_the_encoders_image_is_the_stored_64_px_level(root: Path, level: Level) -> None:
    (batch,) = take(1, open_dataset(root, 128), level)
    assert batch.encoder_images is not None
    assert torch.equal(batch.encoder_images, level.read_samples(batch.samples.numpy()))
    (small,) = take(1, level, level)
    assert small.encoder_images is small.images
    (none,) = take(1, level)
    assert none.encoder_images is None


def test_a_variant_is_drawn_at_every_access_and_pooled_for_the_encoder(root: Path, level: Level) -> None:
    color = partial(draw, "color", seed=5)
    large = open_dataset(root, 128)
    runs = [take(10, large, level, draw=color, workers=w) for w in (0, 2)]
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a.images, b.images)
        assert a.encoder_images is not None
        assert a.images.shape == (10, 3, 128, 128)
        mean = a.images.double().reshape(10, 3, 64, 2, 64, 2).mean((3, 5))
        assert torch.equal(a.encoder_images.double(), torch.floor(mean + 0.5))
    flat = torch.cat([b.images for b in runs[0]]), torch.cat([b.samples for b in runs[0]])
    first, second = (flat[0][e * 50 : e * 50 + 50][flat[1][e * 50 : e * 50 + 50].argsort()] for e in (0, 1))
    assert not torch.equal(first, second), "another epoch draws another colour"


def test_seeking_far_costs_no_more_than_starting(level: Level) -> None:
    def seconds(start: int) -> float:
        began = time.perf_counter()
        take(1, level, start=start)
        return time.perf_counter() - began

    seconds(0)
    assert min(seconds(10**10 + i) for i in range(3)) < 20 * min(seconds(i) for i in range(3)) + 0.05


def test_a_level_can_be_sent_to_a_spawned_process(level: Level) -> None:
    import pickle

    level.read_samples(np.arange(2))
    copy = pickle.loads(pickle.dumps(level))
    assert torch.equal(copy.read_samples(np.arange(3)), level.read_samples(np.arange(3)))


def log_batches(root: str, log: str, start: int, rank: int, world_size: int, workers: int, count: int) -> None:
    """Write a line for each batch that this rank reads."""
    split = {"rank": rank, "world_size": world_size, "workers": workers}
    stream = batches(open_dataset(Path(root), 64), seed=9, start=start, batch_size=12, **split)
    with open(log, "a", buffering=1) as out:
        for batch in itertools.islice(stream, count):
            out.write(json.dumps([batch.positions.tolist(), batch.samples.tolist()]) + "\n")


def logger(root: Path, log: Path, start: int, rank: int, world: int, workers: int, count: int) -> processes.Running:
    return processes.start(log_batches, (str(root), str(log), start, rank, world, workers, count), log.parent / "logs")


def children_of(pid: int) -> set[int]:
    return {int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def read_log(path: Path) -> dict[int, int]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {p: s for positions, samples in rows for p, s in zip(positions, samples, strict=True)}


def test_a_run_killed_and_resumed_on_two_ranks_sees_the_same_sequence(root: Path, level: Level, tmp_path: Path) -> None:
    unbroken = {
        int(p): int(s)
        for b in take(40, level, seed=9, batch_size=12)
        for p, s in zip(b.positions, b.samples, strict=True)
    }
    first = logger(root, tmp_path / "first", 0, 0, 1, 2, 10**6)
    while not (tmp_path / "first").exists() or (tmp_path / "first").read_bytes().count(b"\n") < 11:
        time.sleep(0.01)
    children = children_of(first.pid)
    assert len(children) == 2, "its workers"
    first.kill()
    first.wait()
    lines = (tmp_path / "first").read_text().splitlines(keepends=True)
    (tmp_path / "first").write_text("".join(lines[:11]))  # the clock of the last checkpoint: 11 iterations
    ranks = [logger(root, tmp_path / f"rank{r}", 132, r, 2, 1, 29) for r in range(2)]
    assert [r.wait(120) for r in ranks] == [0, 0]
    parts = [read_log(tmp_path / name) for name in ("first", "rank0", "rank1")]
    assert sum(map(len, parts)) == len(unbroken) == 480
    assert parts[0] | parts[1] | parts[2] == unbroken
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{c}").exists() for c in children):
        assert time.monotonic() < deadline, "workers leave when their parent is gone"
        time.sleep(0.1)


def test_workers_survive_the_signals_of_preemption(level: Level) -> None:
    before = children_of(os.getpid())
    stream = batches(level, seed=0, start=0, batch_size=10, workers=2)
    next(stream)
    workers = children_of(os.getpid()) - before
    assert len(workers) == 2
    sender = "import os, sys; [os.kill(int(p), int(s)) for p in sys.argv[2:] for s in sys.argv[1].split(',')]"
    names = ",".join(str(int(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1))
    subprocess.run([sys.executable, "-c", sender, names, *map(str, workers)], check=True)
    for _ in range(40):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
