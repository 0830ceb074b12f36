"""Copies of checkpoints elsewhere, against the checkpoints themselves."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from common.errors import UserError
from tests.support.training import differences, finish, newest, train
from trainer.checkpoints import listing, mirror, published
from trainer.checkpoints.mirror import Copier, Mirror
from trainer.checkpoints.retention import Retention

KEEP_TWO = Retention(2)


@pytest.fixture(scope="module")
def trained(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 15 iterations with two checkpoints, and its mirror beside it."""
    place = tmp_path_factory.mktemp("mirrored")
    finish(train("vae", sprites, place / "run", 15, schedule__mirror=f"file://{place}/archive"))
    return place


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_kept_step_is_copied_byte_for_byte(trained: Path) -> None:
    own, copies = trained / "run" / "checkpoints", trained / "archive" / "run"
    steps = [path.name for path in published.steps(trained / "run")]
    assert len(steps) == 2
    assert sorted(path.name for path in copies.glob("step-*")) == sorted(steps)
    for step in steps:
        assert files(own / step) == files(copies / step)


def test_a_run_whose_folder_is_lost_goes_on_from_the_copy(trained: Path, sprites: Path, tmp_path: Path) -> None:
    """To the bits of a run that lost nothing."""
    straight = tmp_path / "straight" / "run"
    finish(train("vae", sprites, straight, 20))
    shutil.copytree(trained / "archive", tmp_path / "archive")
    running = finish(train("vae", sprites, tmp_path / "run", 20, schedule__mirror=f"file://{tmp_path}/archive"))
    assert f"step-000000000240 is copied back from file://{tmp_path}/archive/run" in running.err
    assert f"resuming {tmp_path / 'run'} at 240 images" in running.err
    assert not differences(newest(straight), newest(tmp_path / "run"))
    assert (tmp_path / "archive" / "run" / "step-000000000320" / "manifest.json").is_file()


def test_a_copy_that_was_cut_is_never_chosen(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "archive", tmp_path / "archive")
    newest_copy = tmp_path / "archive" / "run" / "step-000000000240"
    copies = Mirror(f"file://{tmp_path}/archive", tmp_path / "run")
    (newest_copy / "manifest.json").unlink()
    assert copies.steps() == {"step-000000000240": "was cut", "step-000000000160": None}
    assert copies.download(tmp_path / "run") == "step-000000000160"
    found = published.newest(tmp_path / "run")
    assert found is not None
    assert files(found) == files(trained / "run" / "checkpoints" / "step-000000000160")


@pytest.mark.parametrize("damage", ["short file", "no file", "manifest cut"])
def test_a_damaged_copy_is_not_chosen(damage: str, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "archive", tmp_path / "archive")
    step = tmp_path / "archive" / "run" / "step-000000000240"
    data = next(step.glob("*.distcp"))
    if damage == "short file":
        data.write_bytes(data.read_bytes()[:-1])
    elif damage == "no file":
        data.unlink()
    else:
        (step / "manifest.json").write_bytes((step / "manifest.json").read_bytes()[:50])
    problems = Mirror(f"file://{tmp_path}/archive", tmp_path / "run").steps()
    assert problems["step-000000000240"]
    assert problems["step-000000000160"] is None


def test_the_listing_shows_both_places(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    shutil.rmtree(run / "checkpoints" / "step-000000000160")
    shutil.copytree(trained / "archive", tmp_path / "archive")
    shutil.rmtree(tmp_path / "archive" / "run" / "step-000000000240")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(f"{trained}/archive", f"{tmp_path}/archive"))
    listing.print_checkpoints(run)
    shown = capsys.readouterr().out
    lines = {line.split()[1]: line for line in shown.splitlines() if "step-" in line}
    assert "none" in lines["step-000000000240"]
    assert "not here" in lines["step-000000000160"]
    assert "complete" in lines["step-000000000160"]
    assert "archive/run" in shown


def test_a_mirror_that_does_not_answer_hides_no_checkpoint(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(f"file://{trained}/archive", "nosuch://bucket"))
    listing.print_checkpoints(run)
    assert "step-000000000240" in capsys.readouterr().out
    assert "warning: schedule.mirror: nosuch://bucket" in caplog.text


class Store(MemoryFileSystem):
    """A store in memory that may be slow or refuse."""

    protocol = "store"
    seconds = 0.0
    failures = 0

    def put_file(self, lpath: str, rpath: str, **more: object) -> None:  # type: ignore[override]
        time.sleep(self.seconds)
        if type(self).failures:
            type(self).failures -= 1
            raise ConnectionError("reset by peer")
        super().put_file(lpath, rpath, **more)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Store]]:
    fsspec.register_implementation("store", Store, clobber=True)
    monkeypatch.setattr(mirror, "PAUSE", 0.01)
    yield Store
    Store.seconds, Store.failures = 0.0, 0
    Store.store.clear()


def a_step(run: Path, clock: int) -> Path:
    """A published step of one file."""
    step = published.folder(run) / published.name_of(clock)
    step.mkdir(parents=True)
    (step / "data").write_bytes(bytes(clock))
    (step / "manifest.json").write_text(f'{{"format": 1, "files": {{"data": {clock}}}}}')
    return step


def test_a_slow_store_blocks_nothing_and_gets_the_newest(store: type[Store], tmp_path: Path) -> None:
    store.seconds = 0.2
    copier = Copier(Mirror("store://bucket", tmp_path), tmp_path)
    start = time.monotonic()
    for clock in (1, 2, 3, 4):
        copier.copy(a_step(tmp_path, clock), KEEP_TWO)
    assert time.monotonic() - start < 0.2
    copier.finish(60)
    copies = copier.mirror.steps()
    assert copies["step-000000000004"] is None
    assert len(copies) <= 2


def test_training_that_went_back_leaves_no_later_copy(store: type[Store], tmp_path: Path) -> None:
    copier = Copier(Mirror("store://bucket", tmp_path), tmp_path)
    later = a_step(tmp_path, 9)
    copier.mirror.upload(later)
    copier.copy(a_step(tmp_path, 5), KEEP_TWO)
    copier.finish(60)
    assert copier.mirror.steps() == {"step-000000000005": None}


def test_a_store_that_fails_twice_is_tried_again(store: type[Store], tmp_path: Path) -> None:
    store.failures = 2
    copier = Copier(Mirror("store://bucket", tmp_path), tmp_path)
    copier.copy(a_step(tmp_path, 5), KEEP_TWO)
    copier.finish(60)
    assert copier.mirror.steps() == {"step-000000000005": None}


def test_a_store_that_goes_on_failing_costs_a_warning(
    store: type[Store], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.failures = 3
    copier = Copier(Mirror("store://bucket", tmp_path), tmp_path)
    with caplog.at_level(logging.WARNING):
        copier.copy(a_step(tmp_path, 5), KEEP_TWO)
        copier.finish(60)
    assert "step-000000000005 was not copied to store://bucket" in caplog.text
    assert "ConnectionError: reset by peer" in caplog.text
    assert copier.mirror.steps() == {"step-000000000005": "was cut"}


def test_a_signal_waits_no_longer_than_it_may(
    store: type[Store], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.seconds = 0.5
    copier = Copier(Mirror("store://bucket", tmp_path), tmp_path)
    copier.copy(a_step(tmp_path, 5), KEEP_TWO)
    time.sleep(0.05)
    start = time.monotonic()
    copier.finish(0.1)
    assert time.monotonic() - start < 0.4
    assert "the next start copies it" in caplog.text
    copier.finish(60)


def test_a_folder_that_cannot_be_written_is_refused_before_training(sprites: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    url = f"file://{tmp_path}/file"
    running = finish(train("vae", sprites, tmp_path / "run", 4, schedule__mirror=url), 2)
    assert f"error: schedule.mirror: {url}/run:" in running.err
    assert "schedule.mirror=null" in running.err
    assert "Traceback" not in running.err


@pytest.mark.parametrize("url", ["nosuch://bucket/runs", "archive", "s3://me:secret@bucket/runs"])
def test_what_is_no_store_is_refused(url: str, sprites: Path, tmp_path: Path) -> None:
    running = finish(train("vae", sprites, tmp_path / "run", 4, schedule__mirror=url), 2)
    assert "schedule.mirror" in running.err
    assert "Traceback" not in running.err
    assert not (tmp_path / "run" / "config.yaml").exists(), "no copy of it is made"


def test_a_store_whose_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(mirror, "url_to_fs", missing)
    with pytest.raises(UserError, match=r"schedule.mirror: s3://bucket: Install s3fs .* 'idgan\[remote\]'"):
        Mirror("s3://bucket", tmp_path)
