"""A kill at every step of the save protocol, one by one: a good checkpoint is always there, and the next save works."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem

from tests.support import processes
from trainer.checkpoints import published
from trainer.checkpoints.load import restore_newest
from trainer.checkpoints.retention import Retention
from trainer.checkpoints.save import save_checkpoint
from trainer.checkpoints.state import State
from trainer.distributed.world import World

ALONE = World(0, 1, torch.device("cpu"), None)


def state_of(value: float) -> State:
    state = State()
    state.add_tensor("a", torch.full((3, 5), value))
    state.add_tensor("images_seen", torch.tensor(int(value)))
    return state


def save(run: Path, value: int) -> None:
    save_checkpoint(run, value, state_of(value), {}, ALONE, Retention(2))


class Injector:
    """Kills this process at the n-th step that it sees."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0

    def step(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Before the call and after it."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.step()
            result = function(*args, **kwargs)
            self.step()
            return result

        return wrapped


class HalfWritten:
    """A stream that may be killed half-way through a write."""

    def __init__(self, stream: Any, injector: Injector) -> None:
        self._stream, self._injector = stream, injector

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        half = len(view) // 2
        self._stream.write(view[:half])
        self._stream.flush()
        self._injector.step()
        self._stream.write(view[half:])
        return len(view)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def save_and_die(run: str, at: int) -> None:
    """In a process of its own: the third save, killed at its step `at`."""
    injector = Injector(at)
    for name in ("fsync", "rename", "replace", "rmdir", "unlink", "mkdir"):
        setattr(os, name, injector.around(getattr(os, name)))
    create = filesystem.FileSystem.create_stream

    from contextlib import contextmanager

    @contextmanager
    def stream(self: Any, path: Any, mode: str) -> Any:
        with create(self, path, mode) as opened:
            yield HalfWritten(opened, injector) if mode == "wb" else opened

    filesystem.FileSystem.create_stream = stream  # type: ignore[method-assign]
    save(Path(run), 3)


def test_a_kill_at_every_step_of_a_save_leaves_a_good_checkpoint(tmp_path: Path) -> None:
    """Takes more than ten seconds: a save is killed once at each of its operations on files, a process each."""
    before = tmp_path / "before"
    save(before, 1)
    save(before, 2)
    outcomes: list[int] = []
    for at in range(1, 400):
        run = tmp_path / f"run{at}"
        shutil.copytree(before, run)
        code = processes.start(save_and_die, (str(run), at), tmp_path / "logs").wait()
        outcomes.append(check(run))
        shutil.rmtree(run)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    else:
        raise AssertionError("the save never ended")
    assert outcomes == sorted(outcomes), "the newest checkpoint went back"
    assert outcomes[0] == 2
    assert outcomes[-1] == 3
    assert len(outcomes) > 30, "the injector saw too few steps"


def check(run: Path) -> int:
    """The value that a resume finds: a whole state, `latest` names a whole step, and saving goes on."""
    restored = state_of(0)
    manifest = restore_newest(run, restored, ALONE)
    assert manifest is not None
    value = int(restored.state_dict()["images_seen"])
    assert torch.equal(restored.state_dict()["a"], torch.full((3, 5), float(value)))
    assert manifest["images_seen"] == value
    pointed = (published.folder(run) / "latest").read_text().strip()
    assert published.problem(published.folder(run) / pointed) is None
    valid = [step for step in published.steps(run) if published.problem(step) is None]
    assert len(valid) >= 2
    save(run, 4)
    assert published.newest(run) == published.folder(run) / "step-000000000004"
    assert not [path for path in published.folder(run).iterdir() if path.suffix in (".tmp", ".trash")]
    return value


def test_a_damaged_newest_step_is_named_and_skipped(tmp_path: Path, caplog: Any) -> None:
    damages: dict[str, Callable[[Path], Any]] = {
        "bytes instead of": lambda step: os.truncate(step / "__0_0.distcp", 100),
        "lacks .metadata": lambda step: (step / ".metadata").unlink(),
        "lacks __0_0.distcp": lambda step: (step / "__0_0.distcp").unlink(),
        "no readable manifest.json": lambda step: (step / "manifest.json").unlink(),
        "cannot be read": lambda step: (step / ".metadata").write_bytes(b"\0" * (step / ".metadata").stat().st_size),
    }
    for words, damage in damages.items():
        run = tmp_path / words.replace(" ", "_")
        save(run, 1)
        save(run, 2)
        damage(published.folder(run) / "step-000000000002")
        caplog.clear()
        restored = state_of(0)
        restore_newest(run, restored, ALONE)
        assert int(restored.state_dict()["images_seen"]) == 1
        assert "step-000000000002" in caplog.text
        assert words in caplog.text
        save(run, 2)
        again = state_of(0)
        restore_newest(run, again, ALONE)
        assert int(again.state_dict()["images_seen"]) == 2, "the damaged step was not replaced"


def test_steps_that_a_resume_had_to_skip_do_not_count_as_kept(tmp_path: Path) -> None:
    """Their sizes are right and their content is not: training goes on from the one before, which must stay."""
    folder = published.folder(tmp_path)
    for value in (2, 3, 4):
        save_checkpoint(tmp_path, value, state_of(value), {}, ALONE, Retention(3))
    for value in (3, 4):
        metadata = folder / published.name_of(value) / ".metadata"
        metadata.write_bytes(b"\0" * metadata.stat().st_size)
    (folder / "best.tmp").write_text("an evaluation job writes this")
    (folder / f"{published.name_of(4)}.skipped").mkdir()
    restored = state_of(0)
    restore_newest(tmp_path, restored, ALONE)
    assert int(restored.state_dict()["images_seen"]) == 2
    os.rename(folder / published.name_of(3), folder / published.name_of(30))  # so that training has not come to it yet
    save(tmp_path, 3)
    assert [path.name for path in published.steps(tmp_path)] == [published.name_of(3), published.name_of(2)]
    aside = sorted(path.name for path in folder.glob("*.skipped*"))
    names = [f"{published.name_of(4)}.skipped", f"{published.name_of(4)}.skipped2", f"{published.name_of(30)}.skipped"]
    assert aside == names, "they are not lost, nor is what was set aside before"
    assert (folder / f"{published.name_of(4)}.skipped2" / ".metadata").exists()
    assert (folder / "best.tmp").exists()
    restore_newest(tmp_path, restored, ALONE)
    assert int(restored.state_dict()["images_seen"]) == 3
