"""A warning changes no bit, healthy runs raise none, and a run that goes back is a function of its record."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.training import (
    BATCH,
    CONFIGS,
    differences,
    finish,
    largest_gap,
    newest,
    overrides,
    train_system,
    two_at_a_time,
)
from trainer.checkpoints import go_back, published
from trainer.reporting.stats_file import read_stats
from trainer.watch import rewinds
from trainer.watch.watch import Watch

REWIND = "{action: rewind, rewinds: 1, ticks: 5, from_kimg: 0.1, sample_spread: 0}"
SICK_FROM = 10 * BATCH  # the clock after which a planted sign is seen
RESNET = {"network": "{name: resnet, nf: 2, nf_max: 4}", "s_dim": 3}
SMALL = {**RESNET, "growth": "{start_resolution: 16, phase_kimg: 100, fade_kimg: 1}"}  # 16 px to the end
Argv = Sequence[object]


def argv(data: Path, run: Path, steps: int, **more: object) -> list[object]:
    """A run of iterations at 16 px."""
    return ["gan", CONFIGS / "gan.yaml", *overrides(data, run, steps, **{"schedule__keep_last": 9, **SMALL, **more})]


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir() if path.is_dir())


def step(iteration: int) -> str:
    return published.name_of(BATCH * iteration)


def module(args: Argv) -> None:
    processes.module("trainer", [str(a) for a in args])


def sick_until_rewound(args: Argv, cut: bool = False) -> None:
    """Train; samples seem to be alike after image SICK_FROM, until the run goes back.

    cut: end as a kill does, when the rewind is recorded and nothing is set aside yet.
    """
    look = Watch.look

    def wrapped(self: Watch, images_seen: int, terms: Any, sample_spread: float) -> None:
        look(self, images_seen, terms, 0.0 if images_seen > SICK_FROM and not self.past else 1.0)

    Watch.look = wrapped  # type: ignore[method-assign]
    if cut:
        go_back.set_later_aside = lambda run, clock: os._exit(9)
    module(args)


def start(target: Any, args: Argv, folder: Path, *more: object) -> processes.Running:
    return processes.start(target, (args, *more), folder)


def until(run: Path, images: int, running: processes.Running) -> None:
    """Wait for a tick at this clock, and kill the process."""
    while running.process.is_alive() and last_tick(run) < images:
        running.process.join(0.01)
    running.kill()
    assert running.wait() == -9


def last_tick(run: Path) -> int:
    ticks = read_stats(run) if (run / "stats.jsonl").exists() else []
    return int(ticks[-1]["images_seen"]) if ticks else 0


def test_a_warning_names_a_sign_once_and_changes_no_bit(sprites: Path, tmp_path: Path) -> None:
    args = argv(sprites, tmp_path / "warned", 12, watch="{logit_gap: 1e-9, ticks: 1, from_kimg: 0}")
    warned = start(module, args, tmp_path / "logs")
    off = start(module, argv(sprites, tmp_path / "off", 12, watch="null"), tmp_path / "logs")
    assert finish(warned).err.count("D's logits for reals and fakes are") == 1
    assert "warning: " not in finish(off).err
    assert not differences(newest(tmp_path / "warned"), newest(tmp_path / "off"))
    assert all("sample_spread" in tick for tick in read_stats(tmp_path / "warned"))
    assert not any("sample_spread" in tick for tick in read_stats(tmp_path / "off"))


def test_growth_through_every_phase_with_lazy_r1_raises_nothing(sprites: Path, tmp_path: Path) -> None:
    """From the first tick on, at default thresholds: a small ResNet's samples vary untrained."""
    settings = {
        **RESNET,
        "growth": "{start_resolution: 16, phase_kimg: 0.08, fade_kimg: 0.048}",
        "bottleneck": "{}",
        "r1_interval": 4,
        "watch": "{ticks: 1, from_kimg: 0}",
    }
    done = finish(train_system("gan", sprites, tmp_path / "run", 24, **settings))
    assert "warning: watch" not in done.err
    ticks = read_stats(tmp_path / "run")
    assert {tick["resolution"] for tick in ticks} == {16, 32, 64}
    assert all(0.1 < tick["sample_spread"] < 3 for tick in ticks)


@pytest.fixture(scope="module")
def rewound(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """30 iterations that went back once, from image 240 to 160, and what they said."""
    run = tmp_path_factory.mktemp("rewound") / "run"
    running = finish(start(sick_until_rewound, argv(sprites, run, 30, watch=REWIND), run.parent / "logs"))
    return run, running.err


def test_a_rewind_is_recorded_and_goes_on_with_another_seed(rewound: tuple[Path, str]) -> None:
    run, said = rewound
    assert "in 5 ticks in a row, since 160 images; back to 160 images, rewind 1 of 1" in said
    (record,) = json.loads((run / "rewinds.json").read_text())
    assert record == {"sign": "samples", "value": 0.0, "at": 240, "to": 160, "seed": rewinds.seed_after(0, 1)}
    assert record["seed"] != 0
    steps = {path.name: published.read_manifest(path) for path in published.steps(run)}
    assert "rewinds" not in steps[step(10)]
    assert all(steps[step(n)]["rewinds"] == [record] for n in (15, 20, 30))
    assert [tick["images_seen"] for tick in read_stats(run)] == [BATCH * n for n in range(1, 31)]


def test_the_run_is_a_function_of_its_record(rewound: tuple[Path, str], sprites: Path, tmp_path: Path) -> None:
    """A healthy run that is given the record by hand takes the same way; without the record it takes another."""
    run, _ = rewound
    ways = {}
    for name in ("with", "without"):
        ways[name] = tmp_path / name
        shutil.copytree(run, ways[name], ignore=shutil.ignore_patterns("*.lock", "rewinds.json", "stats.jsonl"))
        for n in (15, 20, 25, 30):
            shutil.rmtree(ways[name] / "checkpoints" / step(n))
    shutil.copy(run / "rewinds.json", ways["with"])
    starts = [lambda way=way: start(module, argv(sprites, way, 30, watch=REWIND), tmp_path) for way in ways.values()]
    for running in two_at_a_time(starts):
        finish(running)
    assert not differences(newest(run), newest(ways["with"]))
    gap, _ = largest_gap(newest(run), newest(ways["without"]))
    assert gap > 1e-3


@pytest.mark.parametrize("killed_at", [12, 17])  # the sign is seen; gone back, and the next checkpoint is there
def test_kills_before_and_after_a_rewind_change_nothing(
    killed_at: int, rewound: tuple[Path, str], sprites: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    args = argv(sprites, run, 30, watch=REWIND)
    until(run, killed_at * BATCH, start(sick_until_rewound, args, tmp_path / "logs"))
    finish(start(sick_until_rewound, args, tmp_path / "logs"))
    assert not differences(newest(rewound[0]), newest(run))
    assert (run / "rewinds.json").read_bytes() == (rewound[0] / "rewinds.json").read_bytes()


def test_a_kill_within_a_rewind_changes_nothing(rewound: tuple[Path, str], sprites: Path, tmp_path: Path) -> None:
    """The sign counts at image 272 here, so that the checkpoint at 240 has to be set aside."""
    watch = REWIND.replace("ticks: 5", "ticks: 7")
    ways = {"whole": tmp_path / "whole", "cut": tmp_path / "cut"}
    args = {name: argv(sprites, way, 30, watch=watch) for name, way in ways.items()}
    whole = start(sick_until_rewound, args["whole"], tmp_path / "logs")
    finish(start(sick_until_rewound, args["cut"], tmp_path / "logs", True), 9)
    assert names(ways["cut"]) == [step(5), step(10), step(15)]
    finish(start(sick_until_rewound, args["cut"], tmp_path / "logs"))
    finish(whole)
    assert not differences(newest(ways["whole"]), newest(ways["cut"]))
    for way in ways.values():
        assert f"{step(15)}.skipped" in names(way)
    assert not differences(newest(ways["whole"]), newest(rewound[0])), "only the place of the sign differs"


def test_two_processes_go_back_as_one_does(sprites: Path, tmp_path: Path) -> None:
    """In float64, to rounding; and killed after the rewind they end with the bits of the undisturbed two."""
    more = {"watch": REWIND, "precision": "float64"}
    ends = {}
    for name, count in (("one", 1), ("two", 2), ("killed", 2)):
        args = argv(sprites, tmp_path / name, 24, processes=count, **more)
        ended = group(count, args, tmp_path / "logs", 20 * BATCH if name == "killed" else None)
        if name == "killed":
            assert ended == [-9, -9]
            ended = group(count, args, tmp_path / "logs", None)
        assert ended == [0] * count
        ends[name] = newest(tmp_path / name)
    assert largest_gap(ends["one"], ends["two"])[0] < 1e-9
    assert not differences(ends["two"], ends["killed"])


def group(count: int, args: list[object], folder: Path, killed_at: int | None) -> list[int]:
    """Exit codes of `count` processes of one group; killed_at: all are killed at a tick of this clock."""
    port, run = str(processes.free_port()), Path(next(str(a) for a in args if str(a).startswith("run="))[4:])
    running = [
        processes.start(sick_until_rewound, (args,), folder / str(rank), processes.rank_env(rank, count, port))
        for rank in range(count)
    ]
    if killed_at is not None:
        while running[0].process.is_alive() and last_tick(run) < killed_at:
            running[0].process.join(0.01)
        for each in running:
            each.kill()
    return [each.wait() for each in running]
