"""One job at a time in a run folder, and a dead one's folder is free again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from tests.support import processes
from tests.support.training import VAE, finish, newest, overrides, train
from trainer.jobs import run_lock
from trainer.jobs.run_lock import Lock


def held_by(run: Path, age: float = 0, **more: Any) -> None:
    """A lock of another process that lives on this host (this one's parent), touched `age` seconds ago."""
    parent = os.getppid()
    holder = {
        "token": "other",
        "job": None,
        "host": run_lock.socket.gethostname(),
        "pids": run_lock._namespace(),
        "pid": parent,
    }
    holder |= {"started": run_lock._start_of(parent)} | more
    (run / "lock").write_text(json.dumps(holder))
    then = time.time() - age
    os.utime(run / "lock", (then, then))


def test_a_living_holder_keeps_others_out(tmp_path: Path) -> None:
    held_by(tmp_path, 20, job="77")
    with pytest.raises(UserError, match=r"is in use by Slurm job 77, process \d+ on .*, last heard of 20 s ago"):
        Lock(tmp_path).acquire()
    assert json.loads((tmp_path / "lock").read_text())["token"] == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    "why",
    [
        {"age": 61},
        {"job": "5"},  # written by a version that did not count restarts
        {"job": "5", "host": "elsewhere"},
        {"job": "5", "restarts": 1},
        {"pid": 2**22 + 1},
        {"started": "1"},  # the number belongs to another process by now
    ],
)
def test_a_dead_holder_or_the_same_slurm_job_before_its_requeue_is_taken_over_at_once(
    why: dict[str, Any], tmp_path: Path
) -> None:
    held_by(tmp_path, **why)
    mine = Lock(tmp_path, {"SLURM_JOB_ID": "5", "SLURM_RESTART_COUNT": "2"})
    mine.acquire()
    assert json.loads((tmp_path / "lock").read_text()) == mine.me
    mine.check()
    mine.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "why",
    [
        {"host": "elsewhere"},
        {"host": "elsewhere", "pid": 2**22 + 1},
        {"pids": "pid:[1]", "pid": 2**22 + 1},  # in a container, which counts processes by itself
        {"job": "6"},
        {"job": "5", "restarts": 2},  # a second task of this job, or a second start in its allocation
        {"job": "5", "restarts": 2, "host": "elsewhere"},
        {"job": "5", "restarts": 3, "host": "elsewhere"},
    ],
)
def test_a_process_that_cannot_be_seen_is_believed_for_a_minute(why: dict[str, Any], tmp_path: Path) -> None:
    held_by(tmp_path, 59, **why)
    with pytest.raises(UserError, match="is in use by"):
        Lock(tmp_path, {"SLURM_JOB_ID": "5", "SLURM_RESTART_COUNT": "2"}).acquire()


def test_another_users_process_that_proc_hides_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc mounted with hidepid; a signal to it is refused, and so it is there."""

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    held_by(tmp_path)
    monkeypatch.setattr(run_lock.os, "kill", refuse)
    monkeypatch.setattr(run_lock, "_start_of", lambda pid: None)
    with pytest.raises(UserError, match="is in use by"):
        Lock(tmp_path).acquire()


def test_a_zombie_is_gone(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    while run_lock._start_of(child) != "zombie":
        time.sleep(0.01)
    held_by(tmp_path, pid=child, started="1")
    Lock(tmp_path).acquire()
    os.waitpid(child, 0)


def test_it_beats_while_it_is_held(tmp_path: Path) -> None:
    mine = Lock(tmp_path, beat=0.05)
    mine.acquire()
    os.utime(tmp_path / "lock", (0, 0))
    deadline = time.monotonic() + 10
    while (tmp_path / "lock").stat().st_mtime == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    mine.release()


def test_a_holder_that_was_replaced_stops_and_leaves_the_new_lock(tmp_path: Path) -> None:
    mine = Lock(tmp_path)
    mine.acquire()
    held_by(tmp_path, job="9")
    with pytest.raises(UserError, match=r"Slurm job 9, .* took this run over while this process was silent"):
        mine.check()
    mine.release()
    assert json.loads((tmp_path / "lock").read_text())["token"] == "other"


RACERS = 8


def race(run: str, out: str) -> None:
    """Held until all have tried: the lock of a process that is gone is free."""
    mine = Lock(Path(run))
    try:
        mine.acquire()
    except UserError:
        Path(out, f"refused-{mine.token}").touch()
    else:
        Path(out, f"got-{mine.token}").touch()
        while len(list(Path(out).iterdir())) < RACERS:
            time.sleep(0.01)


def test_of_many_that_start_at_once_one_gets_it(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir(), out.mkdir()
    held_by(run, 61)
    started = [processes.start(race, (str(run), str(out)), tmp_path / f"logs{i}") for i in range(RACERS)]
    for process in started:
        assert process.wait(60) == 0, process.err
    assert len(list(out.glob("got-*"))) == 1
    assert [path.name for path in run.iterdir()] == ["lock"]


def test_of_many_that_take_over_at_once_one_gets_it(tmp_path: Path) -> None:
    """Again and again: one that looked at the dead holder and then stood still must not remove who came after it."""
    for turn in range(100):
        run = tmp_path / f"{turn}"
        run.mkdir()
        held_by(run, 61)
        locks, start = [Lock(run) for _ in range(RACERS)], threading.Barrier(RACERS)
        with ThreadPoolExecutor(RACERS) as pool:
            list(pool.map(lambda mine, start=start: (start.wait(), suppressed(mine)), locks))
        assert sum(mine.held for mine in locks) == 1
        next(mine for mine in locks if mine.held).release()
        assert list(run.iterdir()) == []


def suppressed(mine: Lock) -> None:
    with suppress(UserError):
        mine.acquire()


@pytest.mark.parametrize("age", [0, 61])
def test_one_that_died_while_it_took_over_is_in_nobodys_way(age: float, tmp_path: Path) -> None:
    held_by(tmp_path, 61)
    dead = {"token": "dead", "job": None, "host": run_lock.socket.gethostname(), "pid": 2**22 + 1, "started": "1"}
    dead |= {"pids": run_lock._namespace()}
    right = tmp_path / "lock.other.over"
    right.write_text(json.dumps(dead if age == 0 else dead | {"host": "elsewhere"}))
    os.utime(right, (time.time() - age, time.time() - age))
    mine = Lock(tmp_path)
    mine.acquire()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    mine.release()


def test_a_second_job_is_refused_and_spoils_nothing(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = train("vae", sprites, run, 4000)
    while not (run / "stats.jsonl").exists():
        time.sleep(0.01)
    before = (run / "exit.json").read_text()
    second = finish(train("vae", sprites, run, 4000), 2)
    assert f"{run}: is in use by process {first.pid} on" in second.err
    assert "Traceback" not in second.err
    mistyped = finish(processes.command("trainer", ["vae", VAE, *overrides(sprites, run, 5), "x=1"], tmp_path), 2)
    assert "x: unknown key" in mistyped.err
    assert (run / "exit.json").read_text() == before
    first.kill(signal.SIGKILL)
    first.process.join()
    assert (run / "lock").exists()
    finish(train("vae", sprites, run, 10))  # a SIGKILL left the lock; its process is gone
    assert not (run / "lock").exists()
    assert int(newest(run)["images_seen"]) >= 160


def test_the_lock_of_a_living_run_does_not_lock_a_copy_of_it(tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir()
    held_by(run, folder=str(run))
    shutil.copytree(run, copy)
    link = tmp_path / "same"
    link.symlink_to(run)
    for path in (run, link):  # the same folder by another path is locked
        with pytest.raises(UserError, match="is in use by"):
            Lock(path).acquire()
    mine = Lock(copy)
    mine.acquire()
    assert json.loads((copy / "lock").read_text())["token"] == mine.token
    assert json.loads((run / "lock").read_text())["token"] == "other"
    mine.release()


@pytest.mark.parametrize("folder", ["gone", "unrelated", "a_file"])
def test_a_lock_of_a_folder_that_is_not_known_to_be_another_keeps_others_out(folder: str, tmp_path: Path) -> None:
    """A run that was moved while it trained, or one that another machine sees by another path."""
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "unrelated").mkdir()
    (tmp_path / "a_file").write_text("")
    held_by(run, folder=str(tmp_path / folder))
    with pytest.raises(UserError, match="is in use by"):
        Lock(run).acquire()
