"""Statistics of reals: made once, where they lie, and which of them a run may be compared with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.fid import network
from evaluation.fid import references, trajectory
from evaluation.fid.frechet import distance
from evaluation.inputs.run import open_run
from tests.support import processes
from tests.support.data_sets import make_dsprites
from tests.support.evaluating import answer, evaluate, refused, unmeasured
from tests.support.training import finish


def test_the_reference_is_made_once_and_ahead_of_time(sprites: Path, run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(sprites, data, ignore=shutil.ignore_patterns("references"))
    made = answer(evaluate(tmp_path / "logs", "reference", data, "--samples", 100))
    file = Path(made["file"])
    assert file.parent == data / "references"
    assert [path.name for path in file.parent.iterdir() if path.is_file()] == [file.name]
    stamp = file.stat().st_mtime_ns
    assert answer(evaluate(tmp_path / "logs", "reference", data, "--samples", 100)) == made
    assert file.stat().st_mtime_ns == stamp
    copied, exported = unmeasured(run, tmp_path / "run"), tmp_path / "export"
    finish(processes.command("trainer", ("export", run, exported), tmp_path / "logs"))
    named = answer(evaluate(tmp_path / "logs", "fid", copied, "--samples", 100, "--reference", file))
    for model in (copied, exported):
        found = answer(evaluate(tmp_path / "logs", "fid", model, "--samples", 100, "--data", data))
        assert found["kinds"] == named["kinds"]
    assert [path.name for path in file.parent.iterdir() if path.is_file()] == [file.name]


def test_where_the_data_cannot_be_written_the_reference_lies_in_the_run(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reals, facts = open_run(copy).reals, {"protocol": "clean", "resolution": 64, "count": 9}
    beside = references.path_of(facts, reals, tmp_path)
    assert beside.parent == reals.path / "references"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert references.path_of(facts, reals, tmp_path) == tmp_path / beside.name
    beside.parent.mkdir(exist_ok=True)
    beside.touch()
    assert references.path_of(facts, reals, tmp_path) == beside, "one that is there is taken"
    beside.unlink()


def test_a_reference_of_something_else_is_refused_with_both_named(sprites: Path, run: Path, tmp_path: Path) -> None:
    color = answer(evaluate(tmp_path / "logs", "reference", sprites, "--variant", "color", "--samples", 64))
    running = processes.command("evaluation", ("fid", run, "--samples", 64, "--reference", color["file"]), tmp_path)
    refused(running, color["file"], "variant: color there, plain here")
    weights = network(tmp_path)
    argv = ("reference", sprites, "--samples", 64, "--protocol", "clean", "--weights", weights)
    clean = answer(evaluate(tmp_path / "logs", *argv))
    argv = ("fid", run, "--samples", 64, "--reference", clean["file"], "--protocol", "factor-net")
    running = processes.command("evaluation", argv, tmp_path)
    refused(running, "protocol: clean there, factor-net here", "extractor: ")
    Path(clean["file"]).write_bytes(Path(clean["file"]).read_bytes()[:-7])
    running = processes.command("evaluation", ("fid", run, "--samples", 64, "--reference", clean["file"]), tmp_path)
    refused(running, "is no reference, or a damaged one")


def test_a_reference_of_other_images_is_taken_with_a_warning(copy: Path, sprites: Path, tmp_path: Path) -> None:
    """`reals` are then all images of the run, as the statistics of that many of its set say."""
    other = make_dsprites(tmp_path / "other", count=96, per_shard=96)
    there = answer(evaluate(tmp_path / "logs", "reference", other, "--samples", 64))
    argv = ("fid", copy, "--samples", 5000, "--reference", there["file"], "--of", "reals")
    running = evaluate(tmp_path / "logs", *argv)
    assert "is of other images than the run's own" in running.err
    assert "reals of another set" in running.out
    record, reals = answer(running), open_run(copy).reals
    found, count = record["kinds"], reals.count
    statistics = references.read(Path(there["file"]))
    assert found["reference_data"] == statistics.identity["data"] != reals.identity()["data"]
    assert (found["reference_count"], found["reals"]["count"]) == (64, count)
    here = references.read(Path(answer(evaluate(tmp_path / "logs", "reference", sprites, "--samples", count))["file"]))
    assert found["reals"]["fid"] == pytest.approx(distance(here.moments, statistics.moments), rel=1e-4)
    of_its_own = {**record, "kinds": {name: value for name, value in found.items() if name != "reference_data"}}
    assert trajectory.alike(of_its_own) != trajectory.alike(record)
