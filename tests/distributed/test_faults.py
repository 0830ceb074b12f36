"""One fault of each kind; tests/faults has the whole matrix. What a kill or a disk leaves behind is passed over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.runs import argv_of, assert_same_end, break_and_go_on, finish
from trainer import checkpoint


@pytest.fixture(scope="module")
def straight(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("straight") / "run"
    finish(argv_of(sprites, vae, run, "fsdp2"), run.parent / "logs")
    return run


def test_a_rank_killed_in_its_step_costs_no_bit(straight: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
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
    assert "resuming" in told
    assert_same_end(straight, tmp_path / "run")


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
    run = tmp_path / "run"
    finish(argv_of(sprites, vae, run, "fsdp2", steps=6), tmp_path / "logs")
    newest, before = checkpoint.steps(run)
    damage(newest)
    told = finish(argv_of(sprites, vae, run, "fsdp2"), tmp_path / "again")
    assert f"warning: skipped checkpoint {newest.name}: it " in told
    assert words in told
    assert f"resuming {run} at {int(before.name[5:])} images" in told
    assert_same_end(straight, run)
    shutil.rmtree(run)
