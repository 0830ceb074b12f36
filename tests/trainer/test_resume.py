"""A resumed run is the unbroken run: parameters, optimizer states, EMA and logged losses, bit for bit."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.training import (
    BATCH,
    GAN,
    TERMS,
    TIMING,
    VAE,
    differences,
    finish,
    largest_gap,
    newest,
    overrides,
    train,
    train_system,
    two_at_a_time,
)
from trainer.checkpoints import published
from trainer.memory import free_memory


def logged(run: Path) -> list[dict[str, float]]:
    lines = (run / "stats.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, sprites: Path) -> dict[str, Path]:
    """30 iterations of each stage without a break."""
    root = tmp_path_factory.mktemp("straight")
    finish(train("vae", sprites, root / "vae", 30))
    finish(train("gan", sprites, root / "gan", 30, vae=root / "vae", s_dim=4))
    return {"vae": root / "vae", "gan": root / "gan"}


def settings(stage: str, straight: dict[str, Path]) -> dict[str, object]:
    return {"vae": straight["vae"], "s_dim": 4} if stage == "gan" else {}


@pytest.mark.parametrize("stage", ["vae", "gan"])
def test_thirty_steps_equal_ten_and_ten_and_ten(
    stage: str, sprites: Path, straight: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for steps in (10, 20, 30):
        finish(train(stage, sprites, run, steps, **settings(stage, straight)))
    assert not differences(newest(straight[stage]), newest(run))
    assert logged(straight[stage]) == logged(run)
    assert len(logged(run)) == 30


@pytest.mark.parametrize("system", ["factor_vae", "infogan", "cgan"])
def test_twelve_steps_of_the_other_systems_equal_four_and_four_and_four(
    system: str, sprites: Path, straight: dict[str, Path], tmp_path: Path
) -> None:
    """The critic of FactorVAE, InfoGAN's q and their optimizers are part of what goes on."""
    more = {"vae": straight["vae"]} if system == "cgan" else {}
    begin = partial(train_system, system, sprites)
    for running in two_at_a_time([partial(begin, tmp_path / name, n, **more) for name, n in (("a", 12), ("b", 4))]):
        finish(running)
    for steps in (8, 12):
        finish(begin(tmp_path / "b", steps, **more))
    whole, parts = newest(tmp_path / "a"), newest(tmp_path / "b")
    assert not differences(whole, parts)
    assert logged(tmp_path / "a") == logged(tmp_path / "b")
    assert len(logged(tmp_path / "b")) == 12
    learner = {"factor_vae": "critic", "infogan": "q", "cgan": "discriminator"}[system]
    assert any(name.startswith(f"optimizer.{learner}.") for name in whole)


@pytest.mark.parametrize("stage", ["vae", "gan"])
def test_three_kills_at_random_moments_change_nothing(
    stage: str, sprites: Path, straight: dict[str, Path], tmp_path: Path
) -> None:
    run, kills = tmp_path / "run", 0
    seed = time.time_ns()
    dice = random.Random(seed)
    for _ in range(20):
        running = train(stage, sprites, run, 30, **settings(stage, straight))
        if kills == 3:
            finish(running)
            break
        before = len(logged(run)) if (run / "stats.jsonl").exists() else 0
        target = min(before + dice.randint(3, 9), 29)
        while running.process.is_alive() and (
            not (run / "stats.jsonl").exists() or len((run / "stats.jsonl").read_text().splitlines()) < target
        ):
            time.sleep(0.002)
        time.sleep(dice.random() * 0.05)
        running.kill()
        kills += running.wait() == -9
    assert kills == 3, f"seed {seed}"
    assert not differences(newest(straight[stage]), newest(run)), f"seed {seed}"
    assert logged(straight[stage]) == logged(run), f"seed {seed}"


def test_a_signal_saves_and_leaves_with_75_and_the_command(
    sprites: Path, straight: dict[str, Path], tmp_path: Path
) -> None:
    for number, name in ((signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM"), (signal.SIGUSR1, "SIGUSR1")):
        run = tmp_path / name
        running = train("vae", sprites, run, 30)
        while not (run / "stats.jsonl").exists():
            time.sleep(0.002)
        running.kill(number)
        finish(running, 75)
        left = json.loads((run / "exit.json").read_text())
        assert left["code"] == 75
        assert name in left["reason"]
        assert left["command"].startswith("python -m trainer vae")
        assert left["command"] in running.err
        finish(train("vae", sprites, run, 30))
        assert json.loads((run / "exit.json").read_text())["code"] == 0
        assert not differences(newest(straight["vae"]), newest(run))


def test_micro_batches_and_workers_change_nothing_but_rounding(
    sprites: Path, straight: dict[str, Path], tmp_path: Path
) -> None:
    finish(train("gan", sprites, tmp_path / "a", 3, vae=straight["vae"], s_dim=4, precision="float64"))
    more = {"vae": straight["vae"], "s_dim": 4, "precision": "float64", "micro_batch": 4, "data__workers": 2}
    finish(train("gan", sprites, tmp_path / "b", 3, **more))
    finish(train("gan", sprites, tmp_path / "c", 3, **more | {"micro_batch": 7}))  # of 16: passes of 4 too
    gap, name = largest_gap(newest(tmp_path / "a"), newest(tmp_path / "b"))
    assert gap < 1e-11, name
    assert not differences(newest(tmp_path / "b"), newest(tmp_path / "c"))


def with_free_memory(argv: list[str], free: int) -> None:
    """Train on a machine with so many bytes of free memory."""
    free_memory.free_bytes = lambda world: free  # type: ignore[assignment]
    processes.module("trainer", argv)


def test_passes_that_memory_decides_are_told_and_recorded_and_a_resume_may_take_others(
    sprites: Path, straight: dict[str, Path], tmp_path: Path
) -> None:
    more = {"vae": straight["vae"], "s_dim": 4, "precision": "float64", "micro_batch": "auto"}
    finish(train("gan", sprites, tmp_path / "a", 4, **more))
    run, taken = tmp_path / "b", []
    for steps, free in ((2, 10**12), (3, 46_000_000), (4, 10**12)):
        argv = ["gan", GAN, *overrides(sprites, run, steps, **more, schedule__save_kimg=0.016)]
        running = finish(processes.start(with_free_memory, (argv, free), tmp_path / "logs", estimate=True))
        sizes = published.read_manifest(published.steps(run)[0])["pass_sizes"]
        assert f"micro_batch: auto: {sizes['64']} images a pass at 64 px" in running.err
        taken.append(sizes["64"])
    assert taken[0] == taken[2] == BATCH > taken[1]
    assert BATCH % taken[1] == 0
    gap, name = largest_gap(newest(tmp_path / "a"), newest(run))
    assert gap < 1e-11, name
    argv = ["gan", GAN, *overrides(sprites, tmp_path / "none", 1, **more)]
    running = finish(processes.start(with_free_memory, (argv, 10**6), tmp_path / "logs", estimate=True), 2)
    assert "micro_batch: 1 images a pass at 64 px need" in running.err
    assert "Traceback" not in running.err


def test_a_changed_config_is_refused_with_what_changed(
    sprites: Path, straight: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 5))
    running = finish(train("vae", sprites, run, 10, beta__value=4, seed=3), 2)
    for word in ("beta.value: was 8.0, now 4.0", "seed: was 0, now 3", "run=", "--accept-changes"):
        assert word in running.err
    assert "Traceback" not in running.err
    finish(train("vae", sprites, run, 10, schedule__keep_last=3, micro_batch=8, data__workers=1))


@pytest.mark.parametrize("stage", ["vae", "gan"])
def test_ends_and_saves_between_ticks_change_nothing(
    stage: str, sprites: Path, straight: dict[str, Path], tmp_path: Path
) -> None:
    """Ticks every 4 iterations, saves every 3, lengths 6, 11 and 14: the sums of a tick live through all of it."""
    more = {"schedule__tick_kimg": 0.064, "schedule__save_kimg": 0.048, **settings(stage, straight)}
    finish(train(stage, sprites, tmp_path / "straight", 14, **more))
    for steps in (6, 11, 14):
        finish(train(stage, sprites, tmp_path / "run", steps, **more))
    assert not differences(newest(tmp_path / "straight"), newest(tmp_path / "run"))
    assert logged(tmp_path / "straight") == logged(tmp_path / "run")
    assert [line["images_seen"] for line in logged(tmp_path / "run")] == [64, 128, 192, 224]


def test_steps_are_ordered_by_the_clock_whatever_the_batch_size(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 10))
    argv = overrides(sprites, run, 14, batch_size=32)
    finish(processes.command("trainer", ["vae", VAE, *argv, "--accept-changes"], tmp_path))
    step = published.newest(run)
    assert step is not None
    assert published.read_manifest(step)["images_seen"] == 224


def test_a_damaged_last_step_is_trained_again(sprites: Path, straight: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 30))
    step = published.newest(run)
    assert step is not None
    (step / ".metadata").write_bytes(b"\0" * (step / ".metadata").stat().st_size)
    running = finish(train("vae", sprites, run, 30))
    assert f"skipped checkpoint {step.name}" in running.err
    assert not differences(newest(straight["vae"]), newest(run))


def test_a_change_of_shapes_is_refused_by_its_key(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 5))
    running = finish(train("vae", sprites, run, 10, c_dim=7), 2)
    assert "c_dim: was 10, now 7" in running.err


def test_exit_json_never_says_complete_of_a_run_that_is_not(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def left() -> dict[str, Any]:
        found: dict[str, Any] = json.loads((run / "exit.json").read_text())
        return found

    finish(train("vae", sprites, run, 5))
    assert left()["code"] == 0
    running = train("vae", sprites, run, 400)
    while left()["code"] == 0 and running.process.is_alive():
        time.sleep(0.002)
    running.kill()
    running.wait()
    here = {name: left()[name] for name in ("command", "folder")}
    assert left() == {"code": None, "reason": "running", "run": str(run), **here}
    finish(train("vae", sprites, run, 400, batch_sise=3), 2)
    assert left()["code"] == 2
    assert "batch_sise" in left()["reason"]


def test_what_a_tick_tells(sprites: Path, straight: dict[str, Path]) -> None:
    """The line, stats.jsonl and TensorBoard agree, and hold every term."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for stage, terms in (("vae", TERMS["beta_vae"]), ("gan", TERMS["idgan"])):
        run = straight[stage]
        ticks = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
        assert ticks[0].keys() == {"images_seen", "resolution", *TIMING, *terms}
        board = EventAccumulator(str(run / "tensorboard"))
        board.Reload()
        for name in terms:
            values = {event.step: event.value for event in board.Scalars(name)}
            assert values == pytest.approx({tick["images_seen"]: tick[name] for tick in ticks}, rel=1e-6)
        assert [event.step for event in board.Images("samples")] == [480]
        assert (run / "samples" / "000000000480.png").is_file()
    lines = finish(train("vae", sprites, straight["vae"].parent / "lines", 2)).err.splitlines()
    assert re.match(r"training on CPU.* \(\w+, \d+ threads?\) \(processes: ", lines[0])
    assert lines[0].endswith("(processes: 1, speed: exact)")
    for word in ("kimg 0.0/0.0", "eta 0:00", "s/kimg", "data ", "GB", "64 px", "reconstruction", "kl", "grad_norm"):
        assert word in lines[1]
    assert "\x1b" not in "".join(lines), "plain lines in a file"
