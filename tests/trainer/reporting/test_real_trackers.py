"""Runs with the real trackers, offline: what they hold after a kill, a rewind and a failure.

A run that is resumed is one run in each tracker, and no step of it is sent twice.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState

from common import shipped
from tests.support import processes, wandb_files
from tests.support.training import BATCH, GAN, VAE, finish, overrides
from trainer.checkpoints import published
from trainer.config.load import load_config
from trainer.config.schema import VaeConfig
from trainer.config.settings import to_yaml
from trainer.reporting.stats_file import read_stats
from trainer.reporting.tracker_kinds import FLUSH_SECONDS
from trainer.reporting.trackers import Trackers

STEPS = 20
GRID = 4  # iterations between two sample grids
ALL = ("tensorboard", "wandb", "mlflow")
OFFLINE = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}


def home(folder: Path) -> dict[str, str]:
    """The user's files are others here: a key of theirs is not used, and no log of wandb goes there."""
    return {"HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "home"), "WANDB_API_KEY": ""}


def start(data: Path, run: Path, trackers: Sequence[str]) -> processes.Running:
    """A stage 1 run with a tick every iteration. wandb's and MLflow's own logs go below the run's parent."""
    named = overrides(data, run, STEPS, trackers=f"[{', '.join(trackers)}]", schedule__sample_kimg=BATCH * GRID / 1000)
    return processes.command("trainer", ["vae", VAE, *named], run.parent / "logs", OFFLINE | home(run.parent))


def recorded(run: Path) -> dict[str, Any]:
    """What RUN/trackers.json says of each tracker."""
    try:
        found: dict[str, Any] = json.loads((run / "trackers.json").read_text())["trackers"]
    except FileNotFoundError:
        return {}
    return found


def kill_past_a_checkpoint(running: processes.Running, run: Path) -> dict[str, Any]:
    """Kill a run once all trackers were sent steps past its newest checkpoint, and have written those."""
    while not sent_past_a_checkpoint(run):
        os.kill(running.pid, signal.SIGCONT)
        time.sleep(0.02)
        assert running.process.is_alive(), running.err
        os.kill(running.pid, signal.SIGSTOP)
    time.sleep(3 * FLUSH_SECONDS)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    return recorded(run)


def sent_past_a_checkpoint(run: Path) -> bool:
    checkpoint, sent = published.newest(run), recorded(run)
    steps = [sent[name]["step"] for name in ALL if name in sent]
    return checkpoint is not None and len(steps) == len(ALL) and min(steps) > published.clock_of(checkpoint)


@pytest.fixture(scope="module")
def resumed(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that was killed after steps past its checkpoint, and then went on to its end; what was recorded before."""
    run = tmp_path_factory.mktemp("trackers") / "run"
    before = kill_past_a_checkpoint(start(sprites, run, ALL), run)
    told = finish(start(sprites, run, ALL)).err
    assert "warning" not in told
    for name in ALL:
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


def files_of_wandb(run: Path) -> list[Path]:
    """One of each start, in order."""
    return sorted(path for path in (run / "wandb").rglob("*.wandb") if path.parent.name != "latest-run")


def test_wandb_has_one_run_with_each_step_once(resumed: tuple[Path, dict[str, Any]]) -> None:
    run, before = resumed
    files = files_of_wandb(run)
    assert len(files) == 2
    for file in files:
        assert wandb_files.run_ids(file) == {before["wandb"]["run_id"]}
    rows = [row for file in files for row in wandb_files.history(file)]
    check_steps([row["_step"] for row in rows], run, before["wandb"]["step"])
    for row in rows:
        tick = ticks(run)[row["_step"]]
        assert row["loss"] == pytest.approx(tick["loss"], rel=1e-6)
        assert row["resolution"] == 64
    grids = {row["_step"]: row["samples/filenames"] for row in rows if "samples/filenames" in row}
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


def written(run: Path) -> list[list[tuple[str, int, float]]]:
    """Every (tag, step, value) of each of TensorBoard's files, in order: what no reader has dropped anything of."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    def scalar(value: Any) -> float:
        number = make_ndarray(value.tensor)
        return float(number) if number.dtype.kind == "f" else 0.0  # of a grid or a text

    files = [[*EventFileLoader(str(file)).Load()] for file in sorted((run / "tensorboard").rglob("events*"))]
    return [[(v.tag, event.step, scalar(v)) for event in events for v in event.summary.value] for events in files]


def test_tensorboards_files_have_no_step_twice(resumed: tuple[Path, dict[str, Any]]) -> None:
    run, before = resumed
    files = written(run)
    assert len(files) == 2
    rows = [row for file in files for row in file]
    pairs = [(tag, step) for tag, step, _ in rows]
    assert len(pairs) == len(set(pairs))
    assert min(step for tag, step, _ in files[1] if tag == "loss") > before["tensorboard"]["step"]
    for name in ("loss", "kl", "seconds_per_kimg"):
        check_steps([step for tag, step in pairs if tag == name], run, before["tensorboard"]["step"])


def test_tensorboard_shows_the_steps_of_stats_jsonl(resumed: tuple[Path, dict[str, Any]]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, before = resumed
    at_kill = before["tensorboard"]["step"]
    board = EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0})
    board.Reload()
    shown = board.Scalars("loss")
    check_steps([event.step for event in shown], run, at_kill)
    assert [event.value for event in shown] == pytest.approx([ticks(run)[e.step]["loss"] for e in shown], rel=1e-6)
    grids = {event.step for event in board.Images("samples")}
    saved = {int(path.stem) for path in (run / "samples").iterdir()}
    assert grids <= saved
    assert saved - grids <= {at_kill}
    assert len(board.Tensors("config/text_summary")) == 1


def go_back_in_one_process(run: str) -> None:
    """What a rewind does: a run is closed and opened again at an earlier clock, as no other process."""
    PartialState(cpu=True)
    config = load_config(VaeConfig, Path(VAE), [f"trackers=[{', '.join(ALL)}]"])
    (Path(run) / "config.yaml").write_text(to_yaml(config))
    for rewinds, (images_seen, steps) in enumerate(((0, (8, 16, 24)), (8, (16, 24, 32)))):
        trackers = Trackers(Path(run), config, images_seen, rewinds)
        for step in steps:
            trackers.send(step, {"loss": float(step + 100 * rewinds)}, None)
        trackers.close()
    assert "MLFLOW_TRACKING_URI" not in os.environ, "the next run of the process would go to the same place"


def test_a_rewind_goes_on_in_the_same_runs(tmp_path: Path, monkeypatch: Any) -> None:
    """wandb and MLflow keep the steps that they have. TensorBoard's reader shows those of after the rewind."""
    from mlflow import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    run.mkdir()
    told = finish(processes.start(go_back_in_one_process, (str(run),), tmp_path / "logs", OFFLINE | home(tmp_path))).err
    assert "warning" not in told
    rows = [row for file in files_of_wandb(run) for row in wandb_files.history(file)]
    assert {(row["_step"], row["loss"]) for row in rows} == {(8, 8.0), (16, 16.0), (24, 24.0), (32, 132.0)}
    assert len(rows) == 4
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient((run / "mlflow").as_uri())
    (found,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    history = client.get_metric_history(found.info.run_id, "loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(8, 8.0), (16, 16.0), (24, 24.0), (32, 132.0)]
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    shown = [(event.step, event.value) for event in board.Scalars("loss")]
    assert shown == [(8, 8.0), (16, 116.0), (24, 124.0), (32, 132.0)]
    raw = [[(step, value) for tag, step, value in file if tag == "loss"] for file in written(run)]
    assert raw == [[(8, 8.0), (16, 16.0), (24, 24.0)], [(16, 116.0), (24, 124.0), (32, 132.0)]]


HANGS = """
import os, signal, sys
from pathlib import Path
from accelerate import PartialState
from trainer.config.load import load_config
from trainer.config.schema import VaeConfig
from trainer.reporting import trackers
PartialState(cpu=True)
trackers.END_SECONDS = 0.5
sent_to = trackers.Trackers(Path(sys.argv[1]), load_config(VaeConfig, Path(sys.argv[2]), ["trackers=[wandb]"]), 0)
(core,) = [p for p in Path("/proc").glob("[0-9]*") if f"--pid\\0{os.getpid()}\\0" in (p / "cmdline").read_text()]
os.kill(int(core.name), signal.SIGSTOP)
sent_to.send(8, {"loss": 1.0}, None)
sent_to.close()
"""


def test_a_wandb_that_hangs_does_not_keep_the_process_from_its_end(tmp_path: Path) -> None:
    """A process of its own: those that multiprocessing forks skip what wandb does at exit, which waits for ever."""
    env = os.environ | OFFLINE | home(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(tmp_path), VAE], env=env, timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "trackers: wandb: did not take the last reports within 0.5 s" in done.stderr


def test_two_processes_train_on_where_every_tracker_fails(sprites: Path, tmp_path: Path) -> None:
    """W&B has no key and would ask for one, nobody listens at MLflow's address, and TensorBoard's folder is a file."""
    run, port = tmp_path / "run", str(processes.free_port())
    run.mkdir()
    (run / "tensorboard").touch()
    server = f"http://me:secret@127.0.0.1:{processes.free_port()}"
    env = home(tmp_path) | {"MLFLOW_TRACKING_URI": server, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    argv = ["vae", VAE, *overrides(sprites, run, 3, processes=2, trackers=f"[{', '.join(ALL)}]")]
    ranks = [env | processes.rank_env(rank, 2, port) for rank in range(2)]
    both = [
        processes.start(processes.module, ("trainer", argv), tmp_path / f"rank{ranked['RANK']}", ranked)
        for ranked in ranks
    ]
    for rank in both:
        assert rank.wait() == 0, rank.err
    for name in ALL:
        assert both[0].err.count(f"warning: trackers: {name}: ") == 1
    assert "no API key is configured" in both[0].err
    assert "warning: trackers" not in both[1].err
    everything = both[0].err + "".join(path.read_text() for path in run.glob("*.*"))
    assert "secret" not in everything
    assert [row["images_seen"] for row in read_stats(run)] == [BATCH, 2 * BATCH, 3 * BATCH]


def without_packages(argv: list[str]) -> None:
    sys.modules["wandb"] = sys.modules["mlflow"] = None  # type: ignore[assignment]
    processes.module("trainer", argv)


@pytest.mark.parametrize("command", [["vae", VAE], ["gan", GAN, "vae=nowhere"]])
def test_what_is_not_installed_is_refused_before_the_first_step(
    command: list[str], sprites: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    argv = [*command, *overrides(sprites, run, 3, trackers="[wandb, tensorboard, mlflow]")]
    told = finish(processes.start(without_packages, (argv,), tmp_path / "logs"), 2).err
    for name, rest in (("wandb", "tensorboard, mlflow"), ("mlflow", "wandb, tensorboard")):
        problem = f"trackers: [wandb, tensorboard, mlflow]: {name} is not installed; {shipped.installing(name)}, or "
        assert f"{problem}leave it out: trackers=[{rest}]" in told
    assert "Traceback" not in told
    assert not (run / "stats.jsonl").exists()
    assert not (run / "trackers.json").exists()
