"""Stored averages of the generator: bytes, resumes, kills, full disks, bad files."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from common.errors import UserError
from tests.reference import plain
from tests.support import processes
from tests.support.training import CONFIGS, differences, finish, largest_gap, newest, overrides, tensors, train
from trainer.checkpoints import ema_snapshots
from trainer.config.sections import EmaConfig

WIDE = EmaConfig.model_validate({"averages": [{"sigma_rel": 0.05}, {"sigma_rel": 0.1}], "snapshot_kimg": 0.01})
MANY = {"ema__averages": "[{half_life_kimg: 0.1}, {sigma_rel: 0.05}, {sigma_rel: 0.1}]", "ema__snapshot_kimg": 0.064}


def stored(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "ema").iterdir()}


@pytest.fixture(scope="module")
def straight(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 iterations of 16 with three averages, and a snapshot every 4."""
    run = tmp_path_factory.mktemp("straight") / "run"
    finish(train("gan", sprites, run, 12, vae=vae, schedule__keep_last=9, **MANY))
    return run


def test_a_resume_keeps_averages_and_snapshots_bit_for_bit(
    straight: Path, sprites: Path, vae: Path, tmp_path: Path
) -> None:
    for steps in (4, 8, 12):
        finish(train("gan", sprites, tmp_path / "run", steps, vae=vae, **MANY))
    assert not differences(newest(straight), newest(tmp_path / "run"))
    assert stored(straight) == stored(tmp_path / "run")
    names = [f"{n:012d}-sigma_rel_{s}.safetensors" for n in (64, 128, 192) for s in (0.05, 0.1)]
    assert sorted(stored(straight)) == names


def test_going_over_a_snapshot_again_writes_the_same_bytes(
    straight: Path, sprites: Path, vae: Path, tmp_path: Path
) -> None:
    """From the checkpoint at 80 images, over the snapshots at 128 and 192."""
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    for step in (160, 192):
        shutil.rmtree(run / "checkpoints" / f"step-{step:012d}")
    before = {path.name: path.stat().st_mtime_ns for path in (run / "ema").iterdir()}
    finish(train("gan", sprites, run, 12, vae=vae, schedule__keep_last=9, **MANY))
    assert stored(straight) == stored(run)
    again = {path.name for path in (run / "ema").iterdir() if path.stat().st_mtime_ns != before[path.name]}
    assert {int(name[:12]) for name in again} == {128, 192}


def test_a_snapshot_holds_the_average_and_says_where_it_comes_from(straight: Path) -> None:
    last = tensors(straight / "checkpoints" / f"step-{192:012d}")
    for sigma_rel in (0.05, 0.1):
        with safe_open(straight / "ema" / f"{192:012d}-sigma_rel_{sigma_rel}.safetensors", "pt") as file:
            facts = json.loads(file.metadata()["idgan"])
            for name in file.keys():  # noqa: SIM118
                assert torch.equal(file.get_tensor(name), last[f"ema.sigma_rel_{sigma_rel}.{name}"])
        power = facts.pop("gamma")
        assert (power + 1) / ((power + 2) ** 2 * (power + 3)) == pytest.approx(sigma_rel**2)
        assert len(facts.pop("settings")) == 64
        assert facts == {"format": 1, "images_seen": 192, "sigma_rel": sigma_rel, "resolution": 64, "alpha": None}


def test_without_snapshot_kimg_nothing_is_stored(sprites: Path, vae: Path, tmp_path: Path) -> None:
    finish(train("gan", sprites, tmp_path / "run", 1, vae=vae, ema__averages=MANY["ema__averages"]))
    assert not (tmp_path / "run" / "ema").exists()


def test_other_averages_are_refused_and_another_snapshot_kimg_is_not(
    straight: Path, sprites: Path, vae: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    more = MANY | {"ema__averages": "[{half_life_kimg: 0.1}, {sigma_rel: 0.05}, {sigma_rel: 0.2}]"}
    running = finish(train("gan", sprites, run, 13, vae=vae, **more), 2)
    assert 'ema.averages: was [{"half_life_kimg": 0.1}, {"sigma_rel": 0.05}, {"sigma_rel": 0.1}], now' in running.err
    argv = [f"{key.replace('__', '.')}={value}" for key, value in more.items()]
    argv = ["gan", str(CONFIGS / "idgan.yaml"), "--accept-changes", f"run={run}", f"data.path={sprites}", *argv]
    running = processes.command("trainer", [*argv, f"vae={vae}", "batch_size=16"], tmp_path / "logs")
    finish(running, 2)
    assert "ema.averages: was" in running.err
    assert "a checkpoint holds these; set them back" in running.err
    finish(train("gan", sprites, run, 13, vae=vae, **MANY | {"ema__snapshot_kimg": 0.016}))
    assert f"{208:012d}-sigma_rel_0.05.safetensors" in stored(run)


def test_a_checkpoint_with_the_key_of_before_is_refused(
    straight: Path, sprites: Path, vae: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    for path in (run / "checkpoints").glob("step-*/manifest.json"):
        manifest = json.loads(path.read_text())
        del manifest["config"]["ema.averages"]
        manifest["config"]["ema_decay"] = 0.999
        path.write_text(json.dumps(manifest))
    running = finish(train("gan", sprites, run, 13, vae=vae), 2)
    for words in ("ema.averages: was null", "ema_decay: was 0.999, now null", "another folder with run="):
        assert words in running.err
    assert "Traceback" not in running.err


def write(run: Path, at: int = 10) -> list[Path]:
    """Snapshots of a tiny network."""
    torch.manual_seed(at)
    averages = plain.averages_of(nn.Linear(2, 2), WIDE.averages)
    ema_snapshots.Snapshots(averages, WIDE).write(run, at, {"resolution": 8, "alpha": 0.5}, "of a run", plain.ALONE)
    return ema_snapshots.files(run)


def write_and_die(run: str, call: str, at: int) -> None:
    """In a process of its own: killed at the at-th call of a function of os."""
    count, real = [0], getattr(os, call)

    def counting(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(os, call, counting)
    write(Path(run), 20)


@pytest.mark.parametrize(
    ("call", "at", "whole"), [("fsync", 1, 0), ("replace", 1, 0), ("fsync", 2, 1), ("fsync", 3, 1)]
)
def test_a_kill_inside_a_snapshot_leaves_no_half_file(call: str, at: int, whole: int, tmp_path: Path) -> None:
    run, before = tmp_path / "run", 2
    write(run)
    code = processes.start(write_and_die, (str(run), call, at), tmp_path / "logs").wait()
    assert code == -signal.SIGKILL
    left = ema_snapshots.files(run)
    assert len(left) == before + whole
    for path in left:
        assert ema_snapshots.read_metadata(path, "of a run").resolution == 8
    write(run, 30)
    assert len(ema_snapshots.files(run)) == before + whole + 2
    assert all(path.suffix == ".safetensors" for path in (run / "ema").iterdir()), "what a kill left is swept"


def test_a_full_disk_is_told_and_leaves_what_was_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [(path, path.read_bytes()) for path in write(tmp_path)]
    fsync = os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as error:
        write(tmp_path, 20)
    monkeypatch.setattr(os, "fsync", fsync)
    for words in (f"{20:012d}-sigma_rel_0.05.safetensors", "no space left on the device", "make room"):
        assert words in str(error.value)
    assert [(path, path.read_bytes()) for path in (tmp_path / "ema").iterdir()] == before


def test_files_that_are_no_snapshot_of_the_run_are_named(tmp_path: Path) -> None:
    path, other = write(tmp_path)
    like = nn.Linear(2, 2).state_dict()
    assert ema_snapshots.read(path, like).keys() == like.keys()
    with pytest.raises(UserError, match="another network"):
        ema_snapshots.read(path, nn.Linear(2, 3).state_dict())
    with pytest.raises(UserError, match="other settings, data or encoder"):
        ema_snapshots.read_metadata(path, "of another run")
    content = path.read_bytes()
    for damage in (content[:-5], content[:20], b"", b"{}" * 30):
        path.write_bytes(damage)
        with pytest.raises(UserError, match=f"{path.name}: is not a complete file"):
            ema_snapshots.read_metadata(path, "of a run")
    other.write_bytes(other.read_bytes().replace(b'format\\": 1', b'format\\": 9'))
    with pytest.raises(UserError, match="has format 9, this program reads 1"):
        ema_snapshots.read_metadata(other, "of a run")


def test_two_processes_write_one_set_with_the_averages_of_one(sprites: Path, vae: Path, tmp_path: Path) -> None:
    more = MANY | {"vae": vae, "precision": "float64"}
    finish(train("gan", sprites, tmp_path / "one", 4, **more))
    argv = ["gan", str(CONFIGS / "idgan.yaml"), *overrides(sprites, tmp_path / "two", 4, processes=2, **more)]
    for rank in processes.ranks(2, "trainer", argv, tmp_path / "logs"):
        assert rank.wait() == 0, rank.err
    one, two = (ema_snapshots.files(tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in one] == [path.name for path in two]
    for a, b in zip(one, two, strict=True):
        assert largest_gap(load_file(a), load_file(b))[0] < 1e-9
