"""All processes start with the same code, config and data, or none does; a pinned run goes on only with its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from tests.support import processes
from tests.support.data_sets import make_dsprites
from tests.support.training import VAE, finish, newest, overrides
from trainer.jobs import startup_agreement


def two(argvs: list[list[str]], folder: Path, target: Any = processes.module) -> list[processes.Running]:
    port = str(processes.free_port())
    return [
        processes.start(target, ("trainer", argv), folder / f"rank{rank}", processes.rank_env(rank, 2, port))
        for rank, argv in enumerate(argvs)
    ]


def with_other_code(name: str, argv: list[str]) -> None:
    startup_agreement.code_sha256 = lambda: "0123456789abcdef"  # type: ignore[assignment]
    processes.module(name, argv)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["schedule.tick_kimg=1"], "schedule.tick_kimg: 0.016 on process 0, here 1"),
        (["optimizer.lr=0.5"], "optimizer.lr: 0.0001 on process 0, here 0.5"),
    ],
)
def test_another_config_on_one_process_stops_all(more: list[str], words: str, sprites: Path, tmp_path: Path) -> None:
    argv = ["vae", VAE, *overrides(sprites, tmp_path / "run", 5)]
    for rank in two([argv, [*argv, *more]], tmp_path):
        assert rank.wait(60) == 2, rank.err
        assert "process 1 on " in rank.err
        assert words in rank.err
        assert "give all the same code, config and data" in rank.err
        assert "Traceback" not in rank.err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_other_data_under_the_same_path_of_one_node_stops_all(sprites: Path, tmp_path: Path) -> None:
    """Nodes may each have a data folder of their own: what counts is what is in it."""
    other = make_dsprites(tmp_path / "other", count=64, per_shard=64)
    argvs = [["vae", VAE, *overrides(data, tmp_path / "run", 5)] for data in (sprites, other)]
    for rank in two(argvs, tmp_path):
        assert rank.wait(60) == 2, rank.err
        assert "hash of data: " in rank.err


def impatiently(name: str, argv: list[str]) -> None:
    startup_agreement.PATIENCE = 0.5
    processes.module(name, argv)


def test_a_run_folder_that_is_not_shared_stops_all(sprites: Path, tmp_path: Path) -> None:
    """As on nodes with a disk of their own: each process's part of a checkpoint would lie elsewhere."""
    argvs = [["vae", VAE, *overrides(sprites, tmp_path / node / "run", 5)] for node in ("n1", "n2")]
    for rank in two(argvs, tmp_path, impatiently):
        assert rank.wait(60) == 2, rank.err
        assert f"run: {tmp_path / 'n2' / 'run'} on " in rank.err
        assert "is not the folder of process 0; name one on a file system that all nodes share" in rank.err
        assert "Traceback" not in rank.err
    assert not list(tmp_path.glob("*/run/checkpoints"))


def test_other_code_on_one_process_stops_all(sprites: Path, tmp_path: Path) -> None:
    argv, port = ["vae", VAE, *overrides(sprites, tmp_path / "run", 5)], str(processes.free_port())
    both = [
        processes.start(target, ("trainer", argv), tmp_path / f"rank{rank}", processes.rank_env(rank, 2, port))
        for rank, target in enumerate((processes.module, with_other_code))
    ]
    for rank in both:
        assert rank.wait(60) == 2, rank.err
        assert 'here "0123456789ab"' in rank.err


def test_a_pinned_run_refuses_other_code_and_settings_unless_told(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    argv = ["vae", VAE, "--pinned", *overrides(sprites, run, 5)]
    finish(processes.command("trainer", argv, tmp_path))
    started = json.loads((run / "started.json").read_text())
    assert started["code"] == startup_agreement.code_sha256()[:12]
    assert started["optimizer.lr"] == 1e-4
    longer = ["vae", VAE, "--pinned", *overrides(sprites, run, 10)]
    refused = finish(processes.start(with_other_code, ("trainer", longer), tmp_path), 2)
    for words in ("was started with other code or settings", f'code: was "{started["code"]}", now "0123456789ab"'):
        assert words in refused.err
    assert "Traceback" not in refused.err
    refused = finish(processes.command("trainer", [*longer, "optimizer.lr=0.5"], tmp_path), 2)
    assert "optimizer.lr: was 0.0001, now 0.5" in refused.err
    finish(processes.command("trainer", longer, tmp_path))
    assert int(newest(run)["images_seen"]) == 160
    argv = [*longer, "optimizer.lr=2e-4", "schedule.total_kimg=0.24", "--accept-changes"]
    finish(processes.command("trainer", argv, tmp_path))
    assert json.loads((run / "started.json").read_text())["optimizer.lr"] == 2e-4


def test_the_code_is_every_file_that_trains(tmp_path: Path) -> None:
    first = startup_agreement.code_sha256()
    assert len(first) == 64
    assert first == startup_agreement.code_sha256.__wrapped__()
    (tmp_path / "started.json").write_text("{}")
    with pytest.raises(UserError, match="was started with other code"):
        startup_agreement.pin(tmp_path, _config(tmp_path), False)


def _config(run: Path) -> Any:
    from trainer.config.load import load_config
    from trainer.config.schema import VaeConfig

    return load_config(VaeConfig, Path(VAE), ["data.path=x", f"run={run}"])
