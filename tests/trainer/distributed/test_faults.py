"""One fault of each kind; tests/faults has the whole matrix. What a kill or a disk leaves behind is passed over."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.checkpoint as dcp

from tests.faults.runs import argv_of, assert_same_end, break_and_go_on, finish
from tests.support import processes
from tests.support.data_sets import hashes, mounted
from tests.support.training import BATCH
from trainer.checkpoints import published


@pytest.fixture(scope="module")
def straight(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("straight") / "run"
    finish(argv_of(sprites, vae, run, "fsdp2"), run.parent / "logs")
    return run


def test_a_rank_killed_in_its_step_costs_no_bit(straight: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Takes more than ten seconds: two starts of two processes."""
    argv = argv_of(sprites, vae, tmp_path / "run", "fsdp2")
    codes, told = break_and_go_on(argv, 5, "D", "SIGKILL", tmp_path)
    assert codes[1] == -9
    assert codes[0] not in (0, 75)
    assert "resuming" in told
    assert_same_end(straight, tmp_path / "run")


def test_a_rank_told_to_stop_while_it_saves_costs_no_bit(
    straight: Path, sprites: Path, vae: Path, tmp_path: Path
) -> None:
    argv = argv_of(sprites, vae, tmp_path / "run", "fsdp2")
    codes, told = break_and_go_on(argv, 4, "save", "SIGTERM", tmp_path)
    assert codes == [75, 75]
    assert f"resuming {tmp_path / 'run'} at {4 * BATCH} images" in told
    assert_same_end(straight, tmp_path / "run")


def test_a_signal_waits_for_one_iteration_and_a_save(straight: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
    """It comes in the fifth iteration, which no save is due after.

    Takes more than ten seconds: two starts of two processes.
    """
    argv = argv_of(sprites, vae, tmp_path / "run", "fsdp2")
    codes, told = break_and_go_on(argv, 5, "R1", "SIGTERM", tmp_path)
    assert codes == [75, 75]
    assert f"resuming {tmp_path / 'run'} at {5 * BATCH} images" in told
    assert_same_end(straight, tmp_path / "run")


def filling(argv: list[str], disk: str) -> None:
    """`python -m trainer ARGV`, whose main process fills the disk just before a save."""
    write = dcp.save

    def save(*args: Any, **kwargs: Any) -> Any:
        if os.environ["RANK"] == "0":
            room = os.statvfs(disk)
            (Path(disk) / "filler").write_bytes(b"0" * (room.f_bavail * room.f_frsize - 20_000))
        return write(*args, **kwargs)

    dcp.save = save
    processes.module("trainer", argv)


def test_a_full_disk_ends_both_ranks_with_one_message(straight: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Takes more than ten seconds: three starts of two processes."""
    disk = tmp_path / "disk"
    if not mounted(disk, 20_000):
        pytest.skip("may not mount a small disk here; tests/trainer/test_bad_input.py fakes a full one everywhere")
    try:
        run = disk / "run"
        finish(argv_of(sprites, vae, run, "fsdp2", steps=4), tmp_path / "logs")
        before = hashes(run / "checkpoints")
        argv, port = argv_of(sprites, vae, run, "fsdp2"), str(processes.free_port())
        both = [
            processes.start(filling, (argv, str(disk)), tmp_path / f"full{r}", processes.rank_env(r, 2, port))
            for r in range(2)
        ]
        assert [rank.wait(120) for rank in both] == [2, 2]
        assert "no space left on the device" in both[0].err
        assert f"{published.steps(run)[0].name} is kept" in both[0].err
        assert "Traceback" not in both[0].err + both[1].err
        assert hashes(run / "checkpoints") == before
        (disk / "filler").unlink()
        finish(argv_of(sprites, vae, run, "fsdp2"), tmp_path / "again")
        assert_same_end(straight, run)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_run_folder_that_cannot_be_written_is_told_once(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """RUN's parent is a read-only disk."""
    disk = tmp_path / "disk"
    if not mounted(disk, 1000):
        pytest.skip("may not mount a small disk here")
    try:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        both = processes.ranks(2, "trainer", argv_of(sprites, vae, disk / "run", "ddp"), tmp_path / "logs")
        assert [rank.wait(120) for rank in both] == [2, 2]
        assert "read-only" in both[0].err
        assert str(disk / "run") in both[0].err
        assert "Traceback" not in both[0].err + both[1].err
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def truncate(step: Path) -> None:
    shard = step / "__1_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-200])


def lose_metadata(step: Path) -> None:
    (step / ".metadata").unlink()


def half_delete(step: Path) -> None:
    for path in sorted(step.iterdir())[::2]:
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "words"), [(truncate, "__1_0.distcp with"), (lose_metadata, "lacks .metadata"), (half_delete, "lacks")]
)
def test_a_damaged_newest_step_is_skipped_by_all_ranks(
    damage: Callable[[Path], None], words: str, straight: Path, sprites: Path, vae: Path, tmp_path: Path
) -> None:
    """Takes more than ten seconds: two starts of two processes."""
    run = tmp_path / "run"
    finish(argv_of(sprites, vae, run, "fsdp2", steps=6), tmp_path / "logs")
    newest, before = published.steps(run)
    damage(newest)
    told = finish(argv_of(sprites, vae, run, "fsdp2"), tmp_path / "again")
    assert f"warning: skipped checkpoint {newest.name}: it " in told
    assert words in told
    assert f"resuming {run} at {int(before.name[5:])} images" in told
    assert_same_end(straight, run)
    shutil.rmtree(run)


def test_a_port_in_use_is_told(sprites: Path, vae: Path, tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        env = processes.rank_env(0, 2, str(taken.getsockname()[1]))
        main = processes.start(processes.module, ("trainer", argv_of(sprites, vae, tmp_path, "ddp")), tmp_path, env)
        assert main.wait(60) == 2
    assert re.search(r"error: MASTER_PORT: \S+:\d+ is in use; choose another with --main_process_port", main.err)
    assert "Traceback" not in main.err


def test_what_the_main_process_alone_finds_at_the_start_ends_both(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """A submit command that is not there: the other rank waits in no collective of its own."""
    argv = argv_of(sprites, vae, tmp_path / "run", "ddp")
    argv += ["ema.averages=[{sigma_rel: 0.05}, {sigma_rel: 0.1}]", "ema.snapshot_kimg=1"]
    argv += ["evaluation={submit: true, command: nosuchbatch}"]
    both = processes.ranks(2, "trainer", argv, tmp_path / "logs")
    assert [rank.wait(60) for rank in both] == [2, 2]
    assert "evaluation.command: 'nosuchbatch': no such program" in both[0].err
