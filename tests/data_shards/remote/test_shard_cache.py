"""Whole shards on a node's disk: the same batches, fewer requests, and never a shard that is not whole."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.paths import Url
from data_shards.format import manifest
from data_shards.read.loader import Batch, Level, batches, open_dataset
from data_shards.read.sample_order import samples_at
from data_shards.remote.fetcher import Fetcher, Wanted
from data_shards.remote.shard_cache import ShardCache, in_use
from tests.support import processes
from tests.support.data_sets import hashes, make_dsprites, mounted
from tests.support.file_server import FileServer
from trainer.config.sections import DataConfig
from trainer.stages.data import cache_of

from .conftest import same, take

SHARDS = 4  # of each level


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    made = ShardCache(tmp_path / "cache", 10**9)
    made.prepare()
    return made


def wait_until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def kept(cache: ShardCache) -> list[Path]:
    return sorted(path for path in cache.path.glob("*/*/*.tar") if len(path.parents[1].name) == 64)


def wanted_of(level: Level, cache: ShardCache, start: int = 0) -> list[Wanted]:
    samples, _ = samples_at(3, np.arange(start, start + level.count), level.count)
    return [wanted for _, wanted in sorted(level.kept_in(cache).wanted(samples), key=lambda pair: pair[0])]


def read_on(root: Path | Url, cache: ShardCache, is_so: Callable[[], bool], **options: object) -> list[Batch]:
    """Take batches as `take` does, seven of them once something has come about in the background."""
    levels = [open_dataset(root, 128), open_dataset(root, 64)]
    stream = batches(*levels, **{"seed": 3, "start": 5, "batch_size": 10, "cache": cache, **options})  # type: ignore[arg-type]
    first = next(stream)
    wait_until(is_so)
    taken = [first, *itertools.islice(stream, 6)]
    stream.close()  # type: ignore[attr-defined]
    return taken


@pytest.mark.parametrize("workers", [0, 2])
def test_all_shards_are_fetched_whole_and_read_from_the_disk(
    server: FileServer, root: Path, cache: ShardCache, workers: int
) -> None:
    url = Url(server.url)
    assert same(read_on(url, cache, lambda: len(kept(cache)) == 2 * SHARDS, workers=workers), take(root))
    folder = cache.path / manifest.load(root).hash
    for tar in (*root.glob("64/*.tar"), *root.glob("128/*.tar")):
        assert (folder / tar.relative_to(root)).read_bytes() == tar.read_bytes()
    asked = len(server.requests)
    assert same(take(url, cache=cache, workers=workers), take(root))
    assert not [path for path, _ in server.requests[asked:] if path.endswith(".tar")]


def test_a_folder_that_all_nodes_share_is_copied_too(root: Path, cache: ShardCache) -> None:
    taken = read_on(root, cache, lambda: len(kept(cache)) == 2 * SHARDS)
    assert same(taken, take(root))
    for tar in root.glob("*/*.tar"):
        level = tar.parent.name
        shutil.copy(tar, tar.with_suffix(".bak"))
        tar.write_bytes(bytes(tar.stat().st_size))  # zeros: what is read now comes from the cache
        os.utime(tar, (1, 1))
        assert (cache.folder(manifest.load(root).hash, int(level)) / tar.name).exists()
    assert same(take(root, cache=cache), taken)


def test_shards_are_fetched_in_the_order_of_first_need(server: FileServer, root: Path, cache: ShardCache) -> None:
    level = open_dataset(Url(server.url), 64)
    order, _ = samples_at(3, np.arange(7, 57), 50)
    expected = list(dict.fromkeys(f"{sample // 16:05d}.tar" for sample in order.tolist()))
    assert [wanted.target.name for wanted in wanted_of(level, cache, 7)] == expected


def test_what_does_not_fit_is_read_sample_by_sample(
    server: FileServer, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    level = open_dataset(Url(server.url), 64)
    two = sum(wanted.bytes for wanted in wanted_of(level, ShardCache(tmp_path, 0), 5)[:2])
    cache = ShardCache(tmp_path / "cache", two + 10)
    cache.prepare()
    with caplog.at_level(logging.INFO):
        stream = batches(level, seed=3, start=5, batch_size=10, cache=cache)
        taken = [next(stream)]
        wait_until(lambda: "holds 2 of 4 shards" in caplog.text)
        taken += itertools.islice(stream, 9)
    assert [path.name for path in kept(cache)] == sorted(w.target.name for w in wanted_of(level, cache, 5)[:2])
    plain = list(itertools.islice(batches(open_dataset(root, 64), seed=3, start=5, batch_size=10), 10))
    assert all(a.images.equal(b.images) for a, b in zip(taken, plain, strict=True))


def fetch_64_px(url: str, cache: ShardCache) -> None:
    """Fetch the shards of a level, in a process of its own."""
    fetcher = Fetcher(cache, wanted_of(open_dataset(Url(url), 64), cache))
    fetcher.start()
    wait_until(lambda: len(kept(cache)) == SHARDS, 60)
    fetcher.stop()


def test_a_process_killed_in_a_fetch_leaves_no_half_shard(
    server: FileServer, root: Path, cache: ShardCache, tmp_path: Path
) -> None:
    """Ten seconds where this is the first test that forks a process: what is forked imports torch."""
    server.latency = 0.3
    running = processes.start(fetch_64_px, (server.url, cache), tmp_path)
    wait_until(lambda: bool(list(cache.path.glob("*/*/*.part"))), 60)
    running.kill()
    running.wait()
    for path in kept(cache):
        assert path.read_bytes() == (root / "64" / path.name).read_bytes()
    assert len(kept(cache)) < SHARDS
    server.latency = 0
    fetch_64_px(server.url, cache)
    assert [path.read_bytes() for path in kept(cache)] == [p.read_bytes() for p in sorted(root.glob("64/*.tar"))]
    assert list(cache.path.glob("*/*/*.part")) == []


def test_the_processes_of_a_node_fetch_each_shard_once(server: FileServer, cache: ShardCache, tmp_path: Path) -> None:
    ranks = [processes.start(fetch_64_px, (server.url, cache), tmp_path / str(rank)) for rank in range(3)]
    assert [rank.wait() for rank in ranks] == [0, 0, 0], [rank.err for rank in ranks]
    assert [server.whole(f"64/{number:05d}.tar") for number in range(SHARDS)] == [1] * SHARDS


def test_a_damaged_shard_ends_the_run(server: FileServer, root: Path, cache: ShardCache) -> None:
    tar = root / "64" / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")  # no image has changed
    stream = batches(open_dataset(Url(server.url), 64), seed=3, start=0, batch_size=10, cache=cache)
    with pytest.raises(UserError, match=rf"{server.url}/64/00001.tar: sha256 is .*damaged, or the set was replaced"):
        wait_until(lambda: next(stream) is None)
    assert "00001.tar" not in [path.name for path in kept(cache)]


def test_a_copy_that_the_disk_has_damaged_is_removed_and_read_at_its_source(
    server: FileServer, root: Path, cache: ShardCache, caplog: pytest.LogCaptureFixture
) -> None:
    fetch_64_px(server.url, cache)
    bad = kept(cache)[0]
    bad.write_bytes(bytes(bad.stat().st_size))
    level = open_dataset(Url(server.url), 64).kept_in(cache)
    everything = level.read_samples(np.arange(50))
    assert everything.equal(open_dataset(root, 64).read_samples(np.arange(50)))
    assert not bad.exists()
    assert caplog.text.count("is damaged and was removed") == 1


@pytest.mark.root
def test_a_cache_disk_that_fills_up_costs_speed_alone(
    server: FileServer, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = tmp_path / "disk"
    kib = sum(tar.stat().st_size for tar in root.glob("64/*.tar")) // 1024
    if not mounted(disk, kib // 2):
        pytest.skip("mounting a small tmpfs needs root")
    try:
        cache = ShardCache(disk / "cache", 10**9)
        cache.prepare()
        taken = read_on(Url(server.url), cache, lambda: "No space left" in caplog.text)
        assert same(taken, take(root))
        assert "make room" in caplog.text
        assert list(cache.path.glob("*/*/*.part")) == []
    finally:
        os.system(f"umount -l {disk}")


def test_a_level_that_nobody_reads_makes_room(server: FileServer, cache: ShardCache, root: Path) -> None:
    fetch_64_px(server.url, cache)
    old = kept(cache)
    large = wanted_of(open_dataset(Url(server.url), 128), cache)
    tight = ShardCache(cache.path, sum(path.stat().st_size for path in old) + 1000)
    with in_use(old[0].parent):
        assert not tight.make_room(large[0].bytes, large[0].target.parent)
        assert kept(cache) == old
    wait_until(lambda: tight.make_room(large[0].bytes, large[0].target.parent))  # the fetcher lets go of it, too
    assert kept(cache) == []


def test_a_set_that_lies_where_the_cache_does_is_not_touched(server: FileServer, root: Path) -> None:
    """The only copy of it, perhaps."""
    before = hashes(root)
    cache = ShardCache(root.parent, 100_000)  # the set's tars lie as deep as those of the cache
    cache.prepare()
    (root / "64" / "half.part").write_text("")
    assert cache.used() == 0
    assert not cache.make_room(100_001, root.parent / "other" / "64")
    fetch_64_px(server.url, cache)
    cache.remove_parts()
    wait_until(lambda: cache.make_room(90_000, root.parent / "other" / "64"))
    assert kept(cache) == []
    assert (root / "64" / "half.part").exists()
    (root / "64" / "half.part").unlink()
    assert hashes(root) == before


def test_sets_lie_side_by_side(server: FileServer, root: Path, cache: ShardCache, tmp_path: Path) -> None:
    """Equal names of shards, other images."""
    fetch_64_px(server.url, cache)
    other = make_dsprites(tmp_path / "other", 30, "64", per_shard=16)
    level = open_dataset(other, 64)
    stream = batches(level, seed=3, start=0, batch_size=10, cache=cache)
    next(stream)
    wait_until(lambda: len(kept(cache)) == SHARDS + 2)
    stream.close()  # type: ignore[attr-defined]
    read = level.kept_in(cache).read_samples(np.arange(30))
    assert read.equal(level.read_samples(np.arange(30)))
    assert {path.parents[1].name for path in kept(cache)} == {manifest.load(root).hash, manifest.load(other).hash}


def test_a_fetcher_that_is_stopped_ends(server: FileServer, cache: ShardCache) -> None:
    server.latency = 0.1
    before = set(threading.enumerate())
    fetcher = Fetcher(cache, wanted_of(open_dataset(Url(server.url), 64), cache))
    fetcher.start()
    (thread,) = [thread for thread in threading.enumerate() if thread not in before and thread.name == "shard cache"]
    fetcher.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert list(cache.path.glob("*/*/*.part")) == []


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = DataConfig(path="s3://bucket/set", cache={"path": tmp_path / "file" / "cache", "gigabytes": 1})
    with pytest.raises(UserError, match=r"data.cache.path: .*cannot be written on this node .*data.cache=null"):
        cache_of(config)


def test_a_cache_within_the_set_is_refused(root: Path) -> None:
    config = DataConfig(path=root, cache={"path": root / "cache", "gigabytes": 1})
    with pytest.raises(UserError, match=r"data.cache.path: .*is within data.path"):
        cache_of(config)
