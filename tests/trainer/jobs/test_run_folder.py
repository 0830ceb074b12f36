"""Which folder a config's run has."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserError
from trainer.jobs.run_folder import run_folder


def config_in(folder: Path, text: str, name: str = "config.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def run_in(folder: Path, text: str = "run: null") -> Path:
    """A run that was stopped before its first checkpoint."""
    config = config_in(folder, text)
    (folder / "exit.json").write_text("{}")
    return config


def test_outside_of_a_run_it_is_that_of_the_config_or_one_named_after_it(tmp_path: Path) -> None:
    assert run_folder(config_in(tmp_path / "mine", "run: a/b", "x.yaml"), ()) == Path("a/b")
    assert run_folder(config_in(tmp_path / "mine", "seed: 1", "x.yaml"), ()) == Path("runs/mine-x")
    assert run_folder(config_in(tmp_path / "mine", "run: null", "x.yaml"), ["run=007"]) == Path("007")
    assert run_folder(config_in(tmp_path / "mine", "run: a", "x.yaml"), ["run=null"]) == Path("runs/mine-x")
    assert run_folder(tmp_path / "none.yaml", ()) == Path("runs") / f"{tmp_path.name}-none"


def test_any_config_in_a_run_folder_means_that_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_folder(run_in(run), ()) == run
    assert run_folder(config_in(run, "seed: 1", "longer.yaml"), ()) == run
    assert run_folder(run_in(run, f"run: {run}"), ()) == run
    (tmp_path / "link.yaml").symlink_to(run / "config.yaml")
    assert run_folder(tmp_path / "link.yaml", ()) == run
    (tmp_path / "same").symlink_to(run)
    assert run_folder(tmp_path / "same" / "config.yaml", ()) == tmp_path / "same"
    assert run_folder(run / "cnofig.yaml", ()) == Path("runs/run-cnofig")  # not there: the run is left alone


@pytest.mark.parametrize("marker", ["exit.json", "export.json"])
def test_a_config_that_names_another_run_is_refused_with_both(marker: str, tmp_path: Path) -> None:
    other, here = tmp_path / "other", tmp_path / "here"
    run_in(other)
    config = config_in(here, f"run: {other}")
    (here / marker).write_text("{}")
    with pytest.raises(UserError) as error:
        run_folder(config, ())
    for words in (f"{config} lies in {here}", f"run={other}"):
        assert words in str(error.value)
    assert run_folder(config, [f"run={other}"]) == other


def test_a_run_that_was_moved_is_where_its_config_lies(tmp_path: Path) -> None:
    assert run_folder(run_in(tmp_path / "now", f"run: {tmp_path / 'before'}"), ()) == tmp_path / "now"


def test_a_folder_of_checkpoints_of_another_program_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "project" / "checkpoints" / "epoch-3").mkdir(parents=True)
    assert run_folder(config_in(tmp_path / "project", "run: runs/x", "my.yaml"), ()) == Path("runs/x")
