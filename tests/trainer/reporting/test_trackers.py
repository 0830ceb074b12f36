"""What trackers are sent, and that none of them stops or slows a run: with trackers that fail and hang on purpose."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import shipped
from tests.support.training import VAE
from trainer.config.load import load_config
from trainer.config.schema import VaeConfig
from trainer.reporting import sent_record, tracker_kinds, trackers
from trainer.reporting.tracker_kinds import Grid, RunInfo
from trainer.reporting.trackers import Trackers

Steps = list[int]


class Fake:
    """A tracker that notes what it is given, and does `at[METHOD]` before each call of a method."""

    name = "wandb"
    takes_back = False

    def __init__(self) -> None:
        self.at: dict[str, Callable[[], object]] = {}
        self.ids: list[str | None] = []
        self.kept: Steps = []
        self.steps: Steps = []
        self.configs: list[bool] = []
        self.ended = self.abandoned = 0

    def __call__(self) -> Fake:  # stands for the class
        return self

    def new_id(self) -> str | None:
        return "first" if not self.ids else f"another-{len(self.ids)}"

    def open(self, info: RunInfo, run_id: str | None) -> str | None:
        self.at.get("open", int)()
        self.ids.append(run_id)
        self.kept.append(info.last_step)
        return run_id

    def config(self, info: RunInfo, is_first: bool) -> None:
        self.at.get("config", int)()
        self.configs.append(is_first)

    def log(self, images_seen: int, values: dict[str, float], grid: Grid | None) -> None:
        self.at.get("log", int)()
        self.steps.append(images_seen)

    def finish(self) -> None:
        self.at.get("finish", int)()
        self.ended += 1

    def abandon(self) -> None:
        self.abandoned += 1


class Other(Fake):
    name = "mlflow"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setitem(trackers.KINDS, "wandb", fake)  # type: ignore[arg-type]
    return fake


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Fake:
    other = Other()
    monkeypatch.setitem(trackers.KINDS, "mlflow", other)  # type: ignore[arg-type]
    return other


def start(run: Path, images_seen: int = 0, names: str = "wandb", *more: str, rewinds: int = 0) -> Trackers:
    return Trackers(run, load_config(VaeConfig, Path(VAE), [f"trackers=[{names}]", *more]), images_seen, rewinds)


def train(run: Path, steps: Steps, images_seen: int = 0, names: str = "wandb", *more: str, rewinds: int = 0) -> None:
    """A start that reports at these clocks."""
    sent_to = start(run, images_seen, names, *more, rewinds=rewinds)
    for step in steps:
        sent_to.send(step, {"loss": 1.0}, None)
    sent_to.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def fail(error: BaseException) -> Callable[[], object]:
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.mark.parametrize("method", ["open", "config", "log", "finish"])
@pytest.mark.parametrize("error", [OSError("no route to host\nsecond line"), SystemExit("no route to host")])
def test_one_that_fails_is_named_once_and_the_other_goes_on(
    method: str, error: BaseException, fake: Fake, other: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.at[method] = fail(error)
    train(tmp_path, [8, 16, 24], 0, "wandb, mlflow")
    assert other.steps == [8, 16, 24]
    assert (other.ended, fake.steps) == (1, [8, 16, 24] if method == "finish" else [])
    (told,) = warnings(caplog)
    assert f"trackers: wandb: {type(error).__name__}: no route to host; training goes on without it" in told
    assert "second line" not in told


def test_one_that_fails_on_the_way_gets_nothing_more(
    fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def after_two() -> None:
        if len(fake.steps) == 2:
            raise OSError("gone")

    fake.at["log"] = after_two
    train(tmp_path, [8, 16, 24, 32, 40])
    assert (fake.steps, fake.ended) == ([8, 16], 1)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    ("method", "words"),
    [("open", "did not start within"), ("log", "has taken none of 3 reports"), ("finish", "did not take the last")],
)
def test_one_that_hangs_is_waited_for_once(
    method: str, words: str, fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    for limit in ("START_SECONDS", "LAG_SECONDS", "END_SECONDS"):
        monkeypatch.setattr(trackers, limit, 0.3)
    monkeypatch.setattr(trackers, "MOST_WAITING", 3)
    hangs = threading.Event()
    fake.at[method] = hangs.wait
    began = time.monotonic()
    train(tmp_path, [8 * i for i in range(1, 21)] if method == "log" else [8])
    took = time.monotonic() - began
    assert 0.25 < took < 0.3 * 2 + 2  # and a second for its thread to end
    assert fake.abandoned >= 1
    (told,) = warnings(caplog)
    assert f"trackers: wandb: {words}" in told
    before = list(fake.steps)
    hangs.set()  # it comes back, and what was given up stays so
    time.sleep(0.1)
    assert len(fake.steps) <= len(before) + 1
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("takes_back", [False, True])
def test_no_step_is_sent_twice_when_a_run_goes_back(takes_back: bool, fake: Fake, tmp_path: Path) -> None:
    fake.takes_back = takes_back
    train(tmp_path, [8, 16, 24])
    train(tmp_path, [16, 24, 32], 8)
    train(tmp_path, [8, 16], 0)  # killed before it comes to anything new
    train(tmp_path, [32, 40], 24)
    assert fake.steps == [8, 16, 24, 32, 40]
    assert fake.ids == ["first"] * 4
    assert fake.kept == [0, 24, 32, 32], "none of these is taken back"


@pytest.mark.parametrize("takes_back", [False, True])
def test_steps_that_have_other_numbers_now_are_sent_anew_where_they_can_be_taken_back(
    takes_back: bool, fake: Fake, tmp_path: Path
) -> None:
    """As to TensorBoard, after a rewind of the watch and with other settings. A kill after that repeats none."""
    fake.takes_back = takes_back
    train(tmp_path, [8, 16, 24])
    train(tmp_path, [16, 24], 8, rewinds=1)
    train(tmp_path, [16, 24, 32], 8, rewinds=1)
    train(tmp_path, [24, 32, 40], 16, "wandb", "beta.value=2", rewinds=1)
    assert fake.steps == ([8, 16, 24, 16, 24, 32, 24, 32, 40] if takes_back else [8, 16, 24, 32, 40])
    assert fake.kept == ([0, 8, 24, 16] if takes_back else [0, 24, 24, 32])


def test_the_record_of_an_older_version_is_gone_on_from(fake: Fake, tmp_path: Path) -> None:
    """It noted no step of TensorBoard: those after the checkpoint are taken back once."""
    fake.takes_back = True
    train(tmp_path, [8, 16])
    path = tmp_path / "trackers.json"
    record = json.loads(path.read_text())
    sent = record["trackers"]["wandb"]
    del sent["rewinds"]
    sent["step"] = -1
    path.write_text(json.dumps(record))
    train(tmp_path, [16, 24], 8)
    assert (fake.steps, fake.kept) == ([8, 16, 16, 24], [0, 8])


def test_a_kill_within_a_call_leaves_no_step_to_be_sent_again(fake: Fake, tmp_path: Path) -> None:
    """The disk knows the id before the run is opened, and a step before it is sent."""
    seen: list[dict[str, Any]] = []

    def look() -> None:
        seen.append(json.loads((tmp_path / "trackers.json").read_text())["trackers"]["wandb"])

    fake.at |= {"open": look, "log": look}
    train(tmp_path, [8, 16])
    assert [(sent["run_id"], sent["step"]) for sent in seen] == [("first", -1), ("first", 8), ("first", 16)]


def test_a_full_disk_costs_the_tracker_and_not_the_run(
    fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    sent_to = start(tmp_path)
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(sent_record, "publish", lambda path, data: fail(full)())
    sent_to.send(8, {"loss": 1.0}, None)
    sent_to.close()
    assert fake.steps == []
    assert "No space left" in warnings(caplog)[0]


def test_settings_are_sent_once_and_again_when_they_change(fake: Fake, tmp_path: Path) -> None:
    train(tmp_path, [])
    train(tmp_path, [])
    train(tmp_path, [], 0, "wandb", "schedule.total_kimg=7")
    assert fake.configs == [True, False]


def test_a_copy_of_a_run_is_a_run_of_its_own_and_a_moved_one_is_not(fake: Fake, tmp_path: Path) -> None:
    run, copy, moved = tmp_path / "run", tmp_path / "copy", tmp_path / "moved"
    run.mkdir()
    train(run, [8, 16])
    shutil.copytree(run, copy)
    train(copy, [16], 8)
    train(copy, [16, 24], 8)
    shutil.copytree(run, moved)
    shutil.rmtree(run)
    train(moved, [16, 24], 8)
    assert fake.ids == ["first", "another-1", "another-1", "first"]
    assert fake.steps == [8, 16, 16, 24, 24]


@pytest.mark.parametrize("text", ["", "{}", '{"folder": "/", "trackers": {"wandb": {"stepp": 3}}}', "[1]"])
def test_a_damaged_record_sends_nothing(
    text: str, fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "trackers.json").write_text(text)
    train(tmp_path, [8])
    assert fake.steps == []
    assert f"{tmp_path / 'trackers.json'} is damaged" in warnings(caplog)[0]


def test_a_warning_shows_no_password(
    fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    fake.at["open"] = fail(OSError("POST https://me:secret@host/api with key 0123456789abcdef: refused"))
    train(tmp_path, [])
    assert "POST https://host/api with key $WANDB_API_KEY: refused" in warnings(caplog)[0]


def test_what_is_not_installed_is_named_with_the_command(tmp_path: Path, monkeypatch: Any) -> None:
    """A folder of the package's name, such as wandb makes in the working directory, is no package."""
    (tmp_path / "wandb_of_nobody").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(tracker_kinds._EXTRAS, "wandb_of_nobody", "wandb")
    assert tracker_kinds.missing_packages(("tensorboard", "wandb", "mlflow")) == []
    (problem,) = tracker_kinds.missing_packages(("tensorboard", "wandb_of_nobody"))
    for words in ("trackers: [tensorboard, wandb_of_nobody]", shipped.installing("wandb"), "trackers=[tensorboard]"):
        assert words in problem
