"""A run folder that was copied, moved or started from its own config: what is trained is what was named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.data_sets import hashes
from tests.support.evaluating import refused
from tests.support.training import GAN, VAE, finish, overrides, train
from trainer.checkpoints import published

ONE = 0.016  # kimg of an iteration


def go_on(config: Path, steps: int, *more: str, place: Path, stage: str = "vae") -> processes.Running:
    """Start a run's own config again, for so many iterations in all, in a folder."""
    argv = [stage, str(config), f"schedule.total_kimg={ONE * steps}", *more]
    return processes.start(processes.module_in, (str(place), "trainer", argv), place / "logs")


def clocks(run: Path) -> list[int]:
    return sorted(published.clock_of(step) for step in published.steps(run))


@pytest.fixture
def run(sprites: Path, tmp_path: Path) -> Path:
    """A run of five iterations whose config names its folder."""
    finish(train("vae", sprites, tmp_path / "runs" / "first", 5))
    return tmp_path / "runs" / "first"


def test_a_copy_that_names_the_original_is_refused_and_trains_itself_when_told(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "runs" / "branch"
    shutil.copytree(run, copy)
    before = hashes(run)
    refused(go_on(copy / "config.yaml", 10, "--accept-changes", place=tmp_path), copy, run, f"run={copy}")
    assert hashes(run) == hashes(copy) == before
    finish(go_on(copy / "config.yaml", 10, f"run={copy}", place=tmp_path))
    assert clocks(copy) == [80, 160]
    assert hashes(run) == before
    finish(go_on(copy / "config.yaml", 15, place=tmp_path))  # its config now names it
    assert clocks(copy) == [160, 240]


def test_a_run_that_was_moved_goes_on_where_it_is(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "first"
    moved.parent.mkdir()
    run.rename(moved)
    finish(go_on(Path("elsewhere/first/config.yaml"), 10, place=tmp_path))
    assert clocks(moved) == [80, 160]
    assert not run.exists()


def test_an_own_config_whose_run_was_edited_is_asked_which_of_both_is_meant(run: Path, tmp_path: Path) -> None:
    config, new = run / "config.yaml", tmp_path / "runs" / "second"
    config.write_text(config.read_text().replace(str(run), str(new)))
    before = hashes(run)
    refused(go_on(config, 10, place=tmp_path), f"run: {config} says {new}", f"run={run}", f"run={new}")
    assert hashes(run) == before
    assert not new.exists()
    finish(go_on(config, 5, f"run={new}", place=tmp_path))
    finish(go_on(config, 10, f"run={run}", place=tmp_path))
    assert (clocks(new), clocks(run)) == ([80], [80, 160])


def test_a_run_in_the_default_folder_goes_on_from_its_own_config_and_so_does_a_copy(
    sprites: Path, tmp_path: Path
) -> None:
    settings = [text for text in overrides(sprites, tmp_path, 5) if not text.startswith("run=")]
    finish(processes.start(processes.module_in, (str(tmp_path), "trainer", ["vae", VAE, *settings]), tmp_path / "logs"))
    run, copy = tmp_path / "runs/dsprites-beta_vae", tmp_path / "runs/copy"
    shutil.copytree(run, copy)
    before = hashes(run)
    finish(go_on(Path("runs/copy/config.yaml"), 10, place=tmp_path))
    assert (clocks(run), clocks(copy)) == ([80], [80, 160])
    assert hashes(run) == before
    finish(go_on(Path("runs/dsprites-beta_vae/config.yaml"), 10, place=tmp_path))
    assert clocks(run) == [80, 160]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["copy", "dsprites-beta_vae"]


def test_the_own_config_goes_on_in_another_working_directory(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Its paths were typed as relative ones; that of init_from is a setting that a resume may not change."""
    place, other = tmp_path / "project", tmp_path / "other"
    shutil.copytree(vae, place / "q")
    shutil.copytree(sprites, place / "data")
    other.mkdir()
    settings = [*overrides(Path("data"), Path("runs/a"), 5, vae="q", s_dim=4)]

    def start(*argv: str) -> processes.Running:
        return processes.start(processes.module_in, (str(place), "trainer", ["gan", *argv]), tmp_path / "logs")

    finish(start(GAN, *settings))
    finish(start(GAN, *overrides(Path("data"), Path("runs/b"), 5, vae="q", s_dim=4, init_from="runs/a")))
    shutil.rmtree(place / "runs/a")
    finish(go_on(place / "runs/b/config.yaml", 10, place=other, stage="gan"))
    assert clocks(place / "runs/b") == [80, 160]
    assert [path.name for path in other.iterdir()] == ["logs"]
