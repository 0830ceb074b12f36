"""RUN/profile against what the iterations of its window did."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.training import differences, finish, newest, train

COUNTED = ("data", "code", "D real", "R1 pass 1", "R1 pass 2", "D fake", "G", "distillation", "EMA")


@pytest.fixture(scope="module")
def plain(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight iterations as they come."""
    run = tmp_path_factory.mktemp("plain") / "gan"
    finish(train("gan", sprites, run, 8, vae=vae, r1_interval=2))
    return run


def passes(trace: Path) -> Counter[str]:
    """How often each pass begins in a trace."""
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    return Counter(event["name"] for event in events if event.get("cat") == "user_annotation")


def test_a_window_of_a_fast_run(sprites: Path, vae: Path, plain: Path, tmp_path: Path) -> None:
    """Four iterations from the third on, R1 in every second: the trace has them, and training has the same bits."""
    run = tmp_path / "gan"
    running = finish(train("gan", sprites, run, 8, vae=vae, r1_interval=2, profile="2:4", speed="fast"))
    (trace,) = (run / "profile").iterdir()
    assert trace.name == "000000096-rank0.json.gz"
    found = passes(trace)
    assert {name: found[name] for name in COUNTED} == {name: 2 if name.startswith("R1") else 4 for name in COUNTED}, (
        found
    )
    assert found["optimizer step"] == 8
    assert all(f"\n{name} " in running.err for name in COUNTED)
    assert "aten::convolution_backward" in running.err
    assert not differences(newest(plain), newest(run))
    lines = (run / "stats.jsonl").read_text().splitlines()
    assert {json.loads(line)["speed"] for line in lines} == {"fast"}
    assert "speed: fast" in running.err


def test_a_window_that_the_run_ends_in(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "vae"
    running = finish(train("vae", sprites, run, 4, profile="3:100"))
    (trace,) = (run / "profile").iterdir()
    assert passes(trace)["VAE"] == 1
    assert "profile of 1 iterations" in running.err


def test_a_trace_that_cannot_be_written_costs_no_training(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "vae"
    run.mkdir()
    (run / "profile").write_text("in the way")
    running = finish(train("vae", sprites, run, 4, profile="1:1"))
    assert f"warning: profile: {run / 'profile'} cannot be written" in running.err
    assert newest(run)["images_seen"] == 64


@pytest.mark.parametrize("window", ["20", "20:0", "a:b", "5:-1", "[2, 3]"])
def test_what_is_no_window_is_refused(window: str, sprites: Path, tmp_path: Path) -> None:
    running = finish(train("vae", sprites, tmp_path / "vae", 4, profile=window), 2)
    assert "profile: found" in running.err
    assert "Traceback" not in running.err


def test_another_speed_on_a_resume_is_said_once(sprites: Path, vae: Path, plain: Path, tmp_path: Path) -> None:
    run = tmp_path / "gan"
    finish(train("gan", sprites, run, 4, vae=vae, r1_interval=2))
    running: processes.Running = finish(train("gan", sprites, run, 8, vae=vae, r1_interval=2, speed="fast"))
    assert running.err.count("warning: speed: exact until here, fast from here on") == 1
    assert not differences(newest(plain), newest(run))
