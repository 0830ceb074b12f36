"""`~` and `$SCRATCH` in a path, another working directory, a set that was moved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

import trainer
from common.errors import UserError
from tests.support import processes
from tests.support.evaluating import refused
from tests.support.training import GAN, VAE, finish, overrides
from trainer.checkpoints import published


class Place:
    """A user with a home and a scratch disk, who works in `here`."""

    def __init__(self, root: Path, sprites: Path) -> None:
        self.home, self.scratch, self.here = root / "home", root / "scratch", root / "here"
        for folder in (self.scratch, self.here):
            folder.mkdir(parents=True)
        shutil.copytree(sprites, self.home / "data")
        self.logs = root / "logs"

    def start(self, name: str, *argv: object, place: Path | None = None) -> processes.Running:
        """Run `python -m NAME ARGV` here."""
        env = {"HOME": str(self.home), "SCRATCH": str(self.scratch)}
        args = (str(place or self.here), name, [str(a) for a in argv])
        return processes.start(processes.module_in, args, self.logs, env)


@pytest.fixture
def place(sprites: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, sprites)


def test_every_kind_of_path_is_expanded_and_nothing_is_named_tilde(place: Place) -> None:
    """In a config, as an override, as an argument and as an option; by training, evaluation and data_shards."""
    config = place.here / "mine.yaml"
    config.write_text(Path(VAE).read_text().replace("path: data/dsprites", 'path: "~/data"') + "\nrun: $SCRATCH/q\n")
    settings = [s for s in overrides(place.home, place.home, 2) if not s.startswith(("data.path=", "run="))]
    finish(place.start("trainer", "vae", "mine.yaml", *settings))
    gan = ["data.path=~/data", "vae=${SCRATCH}/q", "run=~/runs/001", "s_dim=4"]
    finish(place.start("trainer", "gan", GAN, *settings, *gan))
    out = ("--out", "$SCRATCH/results")
    record = json.loads(finish(place.start("evaluation", "figures", "~/runs/001", *out)).out.splitlines()[-1])
    assert Path(record["files"][0]).parent == place.scratch / "results/figures"
    finish(place.start("trainer", "export", "~/runs/001", "~/exports/1"))
    finish(place.start("trainer", "checkpoints", "$SCRATCH/q"))
    finish(place.start("data_shards", "info", "${HOME}/data"))
    finish(place.start("data_shards", "make", "dsprites", "--out", "~/new", "--count", 16, "--workers", 1))
    assert {path.name for path in place.home.iterdir()} == {"data", "runs", "exports", "new"}
    assert {path.name for path in place.scratch.iterdir()} == {"q", "results"}
    assert [path.name for path in place.here.iterdir()] == ["mine.yaml"]
    kept = yaml.safe_load((place.home / "runs/001/config.yaml").read_text())
    assert (kept["data"]["path"], kept["vae"]) == (str(place.home / "data"), str(place.scratch / "q"))


def test_a_variable_that_is_not_set_and_a_url_are_refused(place: Place) -> None:
    settings = overrides(place.home / "data", place.here / "run", 2)
    running = place.start("trainer", "vae", VAE, *settings, "data.path=$NOT_SET/data", "run=~nobody_here/run")
    refused(running, 'data.path: found "$NOT_SET/data": ', "NOT_SET is not set; export it", "run: found", "no user")
    running = place.start("trainer", "vae", VAE, *settings, "data.painting=s3://bucket/a.png")
    refused(running, 'data.painting: found "s3://bucket/a.png": it is a URL', "copy what is there to a disk")
    for name, *argv in (
        ("evaluation", "fid", "$NOT_SET/run"),
        ("evaluation", "figures", "run", "--out", "$NOT_SET/out"),
        ("data_shards", "make", "folder", "$NOT_SET/images", "--out", "set", "--resolutions", 64),
        ("trainer", "export", "run", "$NOT_SET/out"),
    ):
        refused(place.start(name, *argv), "$NOT_SET/", "NOT_SET is not set; export it")
    assert list(place.here.iterdir()) == []


def test_a_set_that_was_moved_is_found_again(place: Place) -> None:
    run, moved = place.here / "runs/a", place.scratch / "moved"
    finish(place.start("trainer", "vae", VAE, *overrides(Path("~/data"), Path("runs/a"), 5)))
    (place.home / "data").rename(moved)
    more = (run / "config.yaml", f"schedule.total_kimg={0.016 * 10}")
    refused(place.start("trainer", "vae", *more, place=place.home), place.home / "data")
    finish(place.start("trainer", "vae", *more, "data.path=$SCRATCH/moved", place=place.home))
    newest = published.newest(run)
    assert newest is not None
    assert published.clock_of(newest) == 160
    finish(place.start("evaluation", "figures", run, place=place.home))  # its config has the new path


def test_a_model_in_the_home_folder_is_loaded_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", str(Path("pretrained").absolute()))
    assert trainer.load("$MODELS/dsprites-beta_vae").metadata.c_dim == 10
    monkeypatch.delenv("MODELS")
    with pytest.raises(UserError, match="the environment variable MODELS is not set"):
        trainer.load("$MODELS/dsprites-beta_vae")
