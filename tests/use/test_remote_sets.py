"""A set that lies in an object store or on a web server: trained on, evaluated and exported as if it were on a disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from data_shards.remote import requests
from tests.support import processes
from tests.support.data_sets import hashes
from tests.support.evaluating import answer, evaluate, quickly, refused
from tests.support.file_server import FileServer, serving
from tests.support.training import VAE, differences, finish, newest, overrides, tensors, train
from trainer.checkpoints import published


@pytest.fixture(scope="module")
def server(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    with serving(Path(shutil.copytree(sprites, tmp_path_factory.mktemp("store") / "set"))) as running:
        yield running


@pytest.fixture(scope="module")
def runs(sprites: Path, server: FileServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of stage 1 of ten iterations: from a disk, and from a URL with a stop and a change of workers in between."""
    place = tmp_path_factory.mktemp("runs")
    cache = {"data__cache__path": place / "cache", "data__cache__gigabytes": 1}
    finish(train("vae", sprites, place / "disk", 10))
    server.fail_every = 10
    finish(train("vae", sprites, place / "url", 5, data__path=server.url, data__workers=2, **cache))
    server.fail_every = 0
    finish(train("vae", sprites, place / "url", 10, data__path=server.url))
    return {"disk": place / "disk", "url": place / "url"}


def test_training_from_a_url_is_that_from_a_disk_bit_for_bit(runs: dict[str, Path], server: FileServer) -> None:
    assert server.failed > 5
    assert differences(newest(runs["disk"]), newest(runs["url"])) == []
    data = yaml.safe_load((runs["url"] / "config.yaml").read_text())["data"]
    assert (data["path"], data["cache"]) == (server.url, None)


def test_evaluations_and_exports_read_the_url(runs: dict[str, Path], server: FileServer, tmp_path: Path) -> None:
    found = {}
    for name, run in runs.items():
        logs, out = tmp_path / name, tmp_path / f"export-{name}"
        fid = answer(evaluate(logs, "fid", run, "--samples", 64, "--device", "cpu"))
        metrics = answer(finish(quickly(logs, "disentanglement", run, "--protocol", "short")))
        finish(processes.command("trainer", ["export", run, out], logs))
        weights = {file: sha for file, sha in hashes(out).items() if file.endswith(".safetensors")}
        found[name] = fid["kinds"]["vae"]["fid"], metrics["mig"], weights
    assert found["url"] == found["disk"]
    assert len(found["url"][2]) >= 2
    again = answer(evaluate(tmp_path / "again", "fid", runs["disk"], "--samples", 64, "--data", server.url))
    assert again["kinds"]["vae"]["fid"] == found["disk"][0]


def test_statistics_of_a_set_at_a_url_need_a_folder(server: FileServer, tmp_path: Path) -> None:
    command = ("reference", server.url, "--samples", 64, "--device", "cpu")
    refused(processes.command("evaluation", command, tmp_path / "a"), server.url, "--out")
    file = answer(evaluate(tmp_path / "b", *command, "--out", tmp_path / "out"))["file"]
    assert Path(file).is_file()


def _impatient(argv: list[str]) -> None:
    """Train with short waits between the tries of a request, which take 40 s in all."""
    requests.WAITS = (0.0,) * len(requests.WAITS)
    processes.module("trainer", argv)


def test_a_server_that_goes_away_ends_a_run_with_one_message(
    sprites: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    """The run keeps what it saved, and goes on when the server is back."""
    run = tmp_path / "run"
    shutil.copytree(runs["url"], run)
    with serving(sprites) as other:
        url = other.url
        argv = ["vae", VAE, *overrides(sprites, run, 100_000, data__path=url, data__workers=1)]
        long = processes.start(_impatient, (argv,), tmp_path / "logs")
        before = published.newest(run)
        while long.process.is_alive() and published.newest(run) == before:
            long.process.join(0.1)
        other.status = 503
        refused(long, url, "does not answer any more, after 6 tries", "run the same command again", code=1)
    saved = published.newest(run)
    assert saved is not None
    assert tensors(saved)
    assert json.loads((run / "exit.json").read_text())["code"] == 1, "not the user's: a Slurm job starts again"


def test_a_store_that_refuses_is_told_before_the_first_step(server: FileServer, sprites: Path, tmp_path: Path) -> None:
    server.status = 403
    try:
        running = train("vae", sprites, tmp_path / "run", 5, data__path=server.url)
        refused(running, server.url, "access is refused", "credentials")
    finally:
        server.status = 200
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_password_in_a_url_is_refused(sprites: Path, tmp_path: Path) -> None:
    """Every copy of the config would give it away."""
    running = train("vae", sprites, tmp_path / "run", 5, data__path="https://me:secret@host/set")
    refused(running, "data.path", "give credentials in the environment")
