"""What a user can get wrong in a run: exit 2, key or file, value, remedy, no traceback, nothing published lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import processes, replicas
from tests.support.data_sets import hashes, make_dsprites, mounted, photos
from tests.support.data_sets import run as shards
from tests.support.training import GAN, VAE, differences, finish, newest, overrides, train
from trainer.checkpoints import published


def refused(running: processes.Running, *words: object) -> None:
    finish(running, 2)
    for word in words:
        assert str(word) in running.err, running.err
    assert "Traceback" not in running.err


def test_everything_that_does_not_fit_is_listed_at_once(sprites: Path, vae: Path, tmp_path: Path) -> None:
    running = train("gan", sprites, tmp_path / "run", 5, vae=vae, c_dim=7, data__variant="color", strategy="zero1")
    refused(
        running,
        "3 problems",
        "c_dim: the config has 7",
        f"the encoder of {vae} has 10; set c_dim=10",
        f"{vae} sees 1 channels, the data 3",
        "strategy: zero1 splits over processes, and there is one",
    )


def test_a_wrong_config_is_refused_before_anything_starts(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 5))
    before = hashes(run / "checkpoints")
    running = train("vae", sprites, run, 10, batch_sise=3, seed=-1, beta__value="much")
    refused(
        running,
        "3 problems",
        "batch_sise: unknown key (value 3); did you mean batch_size?",
        "seed: found -1: input should be greater than or equal to 0",
        'beta.value: found "much"',
    )
    assert hashes(run / "checkpoints") == before


def test_a_vae_that_is_none(sprites: Path, vae: Path, tmp_path: Path) -> None:
    refused(train("gan", sprites, tmp_path / "a", 5, vae=tmp_path / "nowhere"), "nowhere", "no such file or folder")
    finish(train("gan", sprites, tmp_path / "gan", 5, vae=vae))
    refused(train("gan", sprites, tmp_path / "b", 5, vae=tmp_path / "gan"), "is no run of stage 1")
    broken = tmp_path / "vae.safetensors"
    broken.write_bytes((tmp_path / "gan" / "vae.safetensors").read_bytes()[:1000])
    refused(train("gan", sprites, tmp_path / "c", 5, vae=broken), broken, "not a VAE file")
    kept = tmp_path / "gan" / "vae.safetensors"
    finish(train("gan", sprites, tmp_path / "gan", 10, vae=kept))


def test_another_vae_or_other_shards_are_refused_on_resume(sprites: Path, vae: Path, tmp_path: Path) -> None:
    run = tmp_path / "gan"
    finish(train("gan", sprites, run, 5, vae=vae))
    before = hashes(run / "checkpoints")
    finish(train("vae", sprites, tmp_path / "other", 6))
    refused(train("gan", sprites, run, 10, vae=tmp_path / "other"), 'vae: was "', "choose another folder with run=")
    other = make_dsprites(tmp_path / "sprites", count=64)
    refused(train("gan", other, run, 10, vae=vae), 'data: was "', "choose another folder with run=")
    assert hashes(run / "checkpoints") == before


def test_a_variant_of_data_that_is_not_dsprites(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    assert shards("make", "folder", folder, "--out", tmp_path / "set", "--resolutions", "64", "--workers", 1).code == 0
    refused(
        train("vae", tmp_path / "set", tmp_path / "run", 5, data__variant="noisy"),
        "data.variant: noisy draws on dSprites",
        "set data.variant=plain",
    )


def test_a_painting_that_nothing_draws_on(sprites: Path, tmp_path: Path) -> None:
    running = train("vae", sprites, tmp_path / "run", 5, data__painting="/nowhere.png")
    refused(running, "data.painting: /nowhere.png", "data.variant is plain", "data.painting=null")


def test_a_stage_1_that_is_gone_is_kept_in_the_run(sprites: Path, vae: Path, tmp_path: Path) -> None:
    moved, run = tmp_path / "vae", tmp_path / "run"
    shutil.copytree(vae, moved)
    finish(train("gan", sprites, run, 2, vae=moved))
    shutil.rmtree(moved)
    refused(train("gan", sprites, run, 3, vae=moved), moved, f"is kept as vae={run / 'vae.safetensors'}")
    finish(train("gan", sprites, run, 3, vae=run / "vae.safetensors"))


def test_a_painting_that_is_no_picture(sprites: Path, tmp_path: Path) -> None:
    text = tmp_path / "painting.jpg"
    text.write_text("not a picture")
    more = {"data__variant": "scream", "data__painting": text}
    refused(train("vae", sprites, tmp_path / "run", 5, **more), "data.painting", text, "not a readable picture")


def test_without_a_painting_scream_says_once_that_it_is_not_the_papers(sprites: Path, tmp_path: Path) -> None:
    picture = replicas.picture(200, 150, 0)
    picture.save(tmp_path / "painting.png")
    own = finish(train("vae", sprites, tmp_path / "own", 1, data__variant="scream"))
    assert own.err.count("warning: data.painting is not set") == own.err.count("not on Munch's painting") == 1
    more = {"data__variant": "scream", "data__painting": tmp_path / "painting.png"}
    assert "warning" not in finish(train("vae", sprites, tmp_path / "named", 1, **more)).err


def test_a_shard_that_is_cut_while_the_run_reads_it(sprites: Path, tmp_path: Path) -> None:
    data = make_dsprites(tmp_path / "data", count=64)
    shard = next((data / "64").glob("*.tar"))
    os.truncate(shard, 2048)
    refused(train("vae", data, tmp_path / "run", 5), shard, "2048", "python -m data_shards")


def poisoned(argv: list[str], at: int) -> None:
    """A trainer whose VAE gets a NaN weight at step `at`."""
    from trainer.steps.vae_step import VaeStep

    original = VaeStep.__call__

    def step(self: Any, batches: Any, second: Any, images_seen: int) -> Any:
        if images_seen == at * 16:
            with torch.no_grad():
                next(self.vae.parameters()).fill_(float("nan"))
        return original(self, batches, second, images_seen)

    VaeStep.__call__ = step  # type: ignore[method-assign]
    processes.module("trainer", argv)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_step(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, tmp_path / "good", 5))
    finish(train("vae", sprites, run, 5))
    before = hashes(run / "checkpoints")
    argv = ["vae", VAE, *overrides(sprites, run, 30, schedule__tick_kimg=0.064)]
    running = processes.start(poisoned, (argv, 7), tmp_path / "logs")
    refused(running, "is not finite at step 8", "step-000000000080 is the last good checkpoint", "--accept-changes")
    assert hashes(run / "checkpoints") == before
    assert json.loads((run / "exit.json").read_text())["code"] == 2
    finish(train("vae", sprites, run, 10))
    finish(train("vae", sprites, tmp_path / "good", 10))
    assert not differences(newest(run), newest(tmp_path / "good"))


def full_disk(argv: list[str]) -> None:
    """A trainer on a disk that is full in the middle of a shard file."""
    from contextlib import contextmanager

    from torch.distributed.checkpoint import filesystem

    create = filesystem.FileSystem.create_stream

    class Full:
        def __init__(self, stream: Any) -> None:
            self._stream, self._left = stream, 100_000

        def write(self, data: Any) -> int:
            self._left -= len(data)
            if self._left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self._stream.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    @contextmanager
    def stream(self: Any, path: Any, mode: str) -> Iterator[Any]:
        with create(self, path, mode) as opened:
            yield Full(opened) if mode == "wb" else opened

    filesystem.FileSystem.create_stream = stream  # type: ignore[method-assign]
    processes.module("trainer", argv)


def test_a_full_disk_during_a_save(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 5))
    before = hashes(run / "checkpoints")
    running = processes.start(full_disk, (["vae", VAE, *overrides(sprites, run, 10)],), tmp_path / "logs")
    refused(
        running,
        run / "checkpoints",
        "no space left on the device",
        "step-000000000080 is kept",
        "make room, and resume",
    )
    assert hashes(run / "checkpoints") == before
    finish(train("vae", sprites, run, 10))


def test_a_disk_that_is_really_full(sprites: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not mounted(disk, 40_000):
        pytest.skip("may not mount a small disk here; test_a_full_disk_during_a_save runs everywhere")
    try:
        run = disk / "run"
        finish(train("vae", sprites, run, 5))
        before = hashes(run / "checkpoints")
        room = os.statvfs(disk)
        (disk / "filler").write_bytes(b"0" * (room.f_bavail * room.f_frsize - 3_000_000))
        refused(train("vae", sprites, run, 10), run / "checkpoints", "no space left", "step-000000000080 is kept")
        assert hashes(run / "checkpoints") == before
        assert published.newest(run) is not None
        (disk / "filler").unlink()
        finish(train("vae", sprites, run, 10))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_no_usable_checkpoint_is_no_fresh_start(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 5))
    (run / "checkpoints" / "step-000000000080" / "manifest.json").unlink()
    refused(train("vae", sprites, run, 10), "no checkpoint can be used", "step-000000000080", "manifest.json")


def test_wrong_words_on_the_command_line(tmp_path: Path) -> None:
    for argv, word in ((["gan"], "'config'"), (["vea", VAE], "vea"), (["gan", GAN, "--steps", "3"], "--steps")):
        refused(processes.command("trainer", argv, tmp_path), word)
