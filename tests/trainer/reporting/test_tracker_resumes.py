"""A run that is killed and resumed is one run in each tracker, and no step of it is sent twice: with the real ones."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes, wandb_files
from tests.support.training import BATCH, VAE, finish, overrides
from trainer.checkpoints import published
from trainer.reporting.tracker_kinds import FLUSH_SECONDS

STEPS = 24
GRID = 4  # iterations between two sample grids
OFFLINE = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}


def start(data: Path, run: Path, trackers: Sequence[str], *more: str, **env: str) -> processes.Running:
    """A stage 1 run with a tick every iteration. wandb's and MLflow's own logs go below the run's parent."""
    named = overrides(data, run, STEPS, trackers=f"[{', '.join(trackers)}]", schedule__sample_kimg=BATCH * GRID / 1000)
    home = {"HOME": str(run.parent / "home"), "XDG_CACHE_HOME": str(run.parent / "home")}
    return processes.command("trainer", ["vae", VAE, *named, *more], run.parent / "logs", OFFLINE | home | env)


def recorded(run: Path) -> dict[str, Any]:
    """What RUN/trackers.json says of each tracker."""
    try:
        found: dict[str, Any] = json.loads((run / "trackers.json").read_text())["trackers"]
    except FileNotFoundError:
        return {}
    return found


def kill_after(running: processes.Running, run: Path, images_seen: int) -> dict[str, Any]:
    """Kill a run once every tracker was sent a step, and its package has written what it was given."""
    while min([sent["step"] for name, sent in recorded(run).items() if name != "tensorboard"] or [0]) < images_seen:
        assert running.process.is_alive(), running.err
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGSTOP)
    time.sleep(3 * FLUSH_SECONDS)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    return recorded(run)


@pytest.fixture(scope="module")
def resumed(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that was killed after steps past its checkpoint, and then went on to its end; what was recorded before."""
    run = tmp_path_factory.mktemp("trackers") / "run"
    trackers = ("tensorboard", "wandb", "mlflow")
    before = kill_after(start(sprites, run, trackers), run, 8 * BATCH)
    step = published.newest(run)
    assert step is not None
    assert published.clock_of(step) < min(before[name]["step"] for name in ("wandb", "mlflow"))
    told = finish(start(sprites, run, trackers)).err
    assert "warning" not in told
    for name in ("wandb", "mlflow"):
        assert f"{name} has the steps up to {before[name]['step']} images; none of them is sent again" in told
    return run, before


def ticks(run: Path) -> dict[int, dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert [row["images_seen"] for row in rows] == [BATCH * i for i in range(1, STEPS + 1)]
    return {row["images_seen"]: row for row in rows}


def check_steps(steps: list[int], run: Path, at_kill: int) -> None:
    """Each once, and all but the one that was being sent when the kill came."""
    assert len(steps) == len(set(steps))
    assert set(ticks(run)) - set(steps) <= {at_kill}


def test_wandb_has_one_run_with_each_step_once(resumed: tuple[Path, dict[str, Any]]) -> None:
    run, before = resumed
    files = sorted((run / "wandb").rglob("*run-2*/*.wandb"))
    assert len(files) == 2
    for file in files:
        assert wandb_files.run_ids(file) == {before["wandb"]["run_id"]}
    rows = [row for file in files for row in wandb_files.history(file)]
    check_steps([row["_step"] for row in rows], run, before["wandb"]["step"])
    for row in rows:
        tick = ticks(run)[row["_step"]]
        assert row["loss"] == pytest.approx(tick["loss"], rel=1e-6)
        assert row["resolution"] == 64
    grids = {row["_step"]: row["samples"]["filenames"] for row in rows if "samples" in row}
    assert set(grids) | {before["wandb"]["step"]} >= {*range(GRID * BATCH, BATCH * STEPS, GRID * BATCH), BATCH * STEPS}
    for (picture,) in grids.values():
        assert len([path for path in (run / "wandb").rglob(Path(picture).name) if "latest-run" not in path.parts]) == 1
    settings = wandb_files.settings(files[0])
    assert (settings["batch_size"], settings["beta.value"], settings["device"]) == (BATCH, 8, "auto")


def test_mlflow_has_one_run_with_each_step_once(resumed: tuple[Path, dict[str, Any]], monkeypatch: Any) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run, before = resumed
    client = MlflowClient((run / "mlflow").as_uri())
    (experiment,) = [found for found in client.search_experiments() if found.name == "idgan"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_id, found.info.run_name) == (before["mlflow"]["run_id"], "run")
    assert found.info.status == "FINISHED"
    assert (found.data.params["batch_size"], found.data.params["beta.value"]) == (str(BATCH), "8.0")
    for name in ("loss", "kl", "resolution"):
        metrics = client.get_metric_history(found.info.run_id, name)
        check_steps([metric.step for metric in metrics], run, before["mlflow"]["step"])
        for metric in metrics:
            assert metric.value == pytest.approx(ticks(run)[metric.step][name], rel=1e-9)
    grids = {Path(file.path).name for file in client.list_artifacts(found.info.run_id, "samples")}
    saved = {path.name for path in (run / "samples").iterdir()}
    assert saved - grids <= {f"{before['mlflow']['step']:012d}.png"}
    assert grids <= saved
    assert "config.yaml" in {file.path for file in client.list_artifacts(found.info.run_id)}


def test_tensorboard_shows_the_steps_of_stats_jsonl(resumed: tuple[Path, dict[str, Any]]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = resumed
    board = EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0})
    board.Reload()
    shown = board.Scalars("loss")
    assert [event.step for event in shown] == list(ticks(run))
    assert [event.value for event in shown] == pytest.approx([tick["loss"] for tick in ticks(run).values()], rel=1e-6)
    assert [event.step for event in board.Images("samples")] == [
        int(p.stem) for p in sorted((run / "samples").iterdir())
    ]
    assert len(board.Tensors("config/text_summary")) == 1
