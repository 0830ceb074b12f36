"""Experiments: what a file may say, in which order it runs, what is skipped, what failures and signals leave."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UserError
from tests.support import experiments
from tests.support.evaluating import small_program
from tests.support.training import finish
from trainer.experiments import experiment_file, jobs, runner
from trainer.experiments.experiment_file import Experiment
from trainer.experiments.programs import Failed

ROOT = Path(__file__).parents[3]
TINY: dict[str, Any] = {
    "runs": "runs",
    "budgets": {"full": {}, "tiny": {"hours_factor": 0.5, "overrides": ["batch_size=2"], "stage_2": ["r1=1"]}},
    "sets": {"sprites": "dsprites --count 8"},
    "cells": {
        "vae": {"stage": "vae", "config": "configs/dsprites/vae.yaml", "set": "sprites", "seeds": 2, "hours": 2},
        "other": {"stage": "vae", "config": "configs/dsprites/vae.yaml", "set": "sprites", "hours": 1},
        "gan": {
            "stage": "gan",
            "config": "configs/dsprites/idgan.yaml",
            "set": "sprites",
            "vae": "vae",
            "hours": 1,
            "measure": ["fid --samples 100"],
        },
    },
}


def experiment(**changes: Any) -> Experiment:
    return Experiment.model_validate(TINY | changes)


def of(name: str, **changes: Any) -> dict[str, Any]:
    """TINY with one cell changed."""
    return TINY | {"cells": TINY["cells"] | {name: TINY["cells"][name] | changes}}


def listed(budget: str = "full", **more: Any) -> list[jobs.Job]:
    found = experiment()
    return jobs.jobs(found, budget, found.budgets[budget], **more)


def test_jobs_are_command_lines_in_the_order_of_their_needs() -> None:
    assert [job.name for job in listed()] == ["vae", "vae-1", "other", "gan"]
    gan = listed("tiny")[-1]
    assert gan.data == ["data_shards", "make", "dsprites", "--count", "8", "--out", "data/sprites"]
    assert gan.training == [
        *("trainer", "gan", "configs/dsprites/idgan.yaml", "run=runs/tiny/gan", "seed=0", "data.path=data/sprites"),
        *("vae=runs/tiny/vae", "batch_size=2", "r1=1"),
    ]
    assert gan.measurements == [["evaluation", "fid", "runs/tiny/gan", "--samples", "100"]]
    assert [job.hours for job in listed("tiny")] == [1, 1, 0.5, 0.5]


def test_seeds_are_of_every_chosen_cell() -> None:
    assert [job.name for job in listed(only="g*", seeds=3)] == ["vae", "gan", "gan-1", "gan-2"]
    found = listed(only="gan", seeds=2)
    assert [job.training[-1] for job in found[1:]] == ["vae=runs/full/vae"] * 2, "one encoder serves them"
    assert [job.training[4] for job in found[1:]] == ["seed=0", "seed=1"]


def test_two_jobs_of_one_name_are_refused() -> None:
    twice = experiment(cells={"vae": TINY["cells"]["vae"], "vae-1": TINY["cells"]["other"]})
    with pytest.raises(UserError, match="vae-1: two cells would have this run folder, one as a seed"):
        jobs.jobs(twice, "full", twice.budgets["full"])


def test_what_a_chosen_cell_needs_comes_along_once() -> None:
    assert [job.name for job in listed(only="g*")] == ["vae", "gan"]
    assert [job.name for job in listed(only="*", seeds=1)] == ["vae", "other", "gan"]
    with pytest.raises(UserError, match=r"--only: x fits no cell; choose from vae, other, gan"):
        listed(only="x")


def test_an_export_is_named_where_no_cell_is() -> None:
    content = of("gan", overrides=["init_from=pretrained/dsprites-beta_vae"])
    found = experiment(**content)
    assert experiment_file.contradictions(found) == []
    *_, gan = jobs.jobs(found, "full", found.budgets["full"], only="gan")
    assert "init_from=pretrained/dsprites-beta_vae" in gan.training


WRONG: list[tuple[dict[str, Any], str]] = [
    (of("gan", vae="vaee"), "cells.gan.vae: vaee is no cell; choose from vae, other, gan"),
    (of("vae", init_from="gan"), "cells.vae.init_from: gan comes after it; put it before"),
    (of("gan", config="configs/nope.yaml"), "cells.gan.config: configs/nope.yaml: no such file"),
    (of("gan", set="spirits"), "cells.gan.set: spirits is no set; choose from sprites"),
    (of("gan", seedz=3), r"cells.gan.seedz: Extra inputs are not permitted \(value 3\)"),
    (of("gan", seeds=0), "cells.gan.seeds: Input should be greater than or equal to 1"),
    (TINY | {"cells": {}}, "cells: Dictionary should have at least 1 item"),
    (of("gan", overrides=["seed=3"]), "cells.gan.overrides: seed=3: the experiment sets seed itself; leave it out"),
    (of("vae", overrides=["vae=x"]), "cells.vae.overrides: vae=x: the experiment sets vae itself; leave it out"),
    (of("gan", overrides=["vae=x"]), "cells.gan.overrides: vae=x: the experiment sets vae itself; leave it out"),
    (TINY | {"budgets": {"full": {"cells": {"gna": []}}}}, "budgets.full: gna is no cell; choose from vae, other, gan"),
    (TINY | {"budgets": {"full": {"stage_2": ["vae=x"]}}}, "budgets.full.stage_2: vae=x: the experiment sets vae it"),
    (TINY | {"variants": {"a": {"overrides": ["run=x"]}}}, "variants.a.overrides: run=x: the experiment sets run"),
    (of("gan", overrides=["data={}"]), "data={}: the experiment sets data.path itself; write data.KEY=VALUE"),
    (of("gan", overrides=["r1=1", "r1=2"]), "cells.gan.overrides: r1=2: the same list sets it by r1=1; leave one"),
]


@pytest.mark.parametrize(("content", "words"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_is_refused(content: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(UserError, match=words) as error:
        experiment_file.load(str(path))
    assert str(error.value).startswith(str(path))


def test_names_with_a_typo_are_refused_with_those_that_are_there() -> None:
    with pytest.raises(UserError, match=r"experiment rsults: no such file .*; choose from .*results"):
        experiment_file.load("rsults")
    with pytest.raises(UserError, match=r"--budget: tny: the experiment has full, tiny; choose one of them"):
        experiment_file.chosen(experiment(), "tny")
    assert experiment_file.chosen(experiment(), None)[0] == "full"


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The programs that would be started; training of what is called vae-1 fails, and so does what needs no run."""
    started: list[list[str]] = []

    def program(argv: list[str]) -> str:
        started.append(argv)
        if "run=runs/full/vae-1" in argv:
            raise Failed("exit code 2")
        return 'some table\n{"fid": 1.5}'

    monkeypatch.setattr(runner, "run_program", program)
    monkeypatch.setattr(runner, "read_stats", lambda _: [{"images_seen": 1000, "seconds_per_kimg": 7200.0}])
    return started


def test_a_failed_job_stops_no_other_and_a_complete_one_is_skipped(programs: list[list[str]], tmp_path: Path) -> None:
    assert runner.run_jobs(listed(), tmp_path) == {"vae-1": "exit code 2"}
    result = json.loads((tmp_path / "gan.json").read_text())
    assert (result["hours"], result["records"]) == (2.0, [{"fid": 1.5}])
    assert result["job"]["training"] == listed()[-1].training
    assert not (tmp_path / "vae-1.json").exists()
    count = len(programs)
    assert runner.run_jobs(listed(), tmp_path) == {"vae-1": "exit code 2"}
    assert [argv[0] for argv in programs[count:]] == ["trainer"], "that of vae-1"


@pytest.mark.parametrize(("images", "again"), [(None, True), (500, True), (1000, False)])
def test_a_run_that_is_gone_or_not_whole_is_trained_again_for_what_needs_it(
    images: int | None, again: bool, programs: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """images: of the newest checkpoint of vae's run, None where the run is gone; its result was made at 1000."""
    found = listed(only="gan")
    runner.run_jobs(found, tmp_path)
    (tmp_path / "gan.json").unlink()
    measured = (tmp_path / "vae.json").read_bytes()
    monkeypatch.setattr(runner, "newest", lambda _: images and Path(f"step-{images:012d}"))
    needed = runner.needed_runs(found, tmp_path)
    assert needed == ({"vae"} if again else set())
    if again:
        with pytest.raises(UserError, match="gan: needs vae, which is not complete; run it first"):
            runner.element(found, tmp_path, "1.0")
    programs.clear()
    assert runner.run_jobs(found, tmp_path, needed) == {}
    expected = ["vae", "gan"] if again else ["gan"]
    assert [argv[1] for argv in programs if argv[0] == "trainer"] == expected
    assert (tmp_path / "vae.json").read_bytes() == measured
    assert runner.needed_runs(found, tmp_path) == set(), "nothing is left that needs it"


def test_what_a_gone_run_needs_itself_is_needed_too_and_its_data(
    programs: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chain = of("other", stage="gan", config="configs/dsprites/idgan.yaml", vae="vae", init_from="gan")
    found = Experiment.model_validate(chain)
    listed_ = jobs.jobs(found, "full", found.budgets["full"], only="other")
    assert [job.name for job in listed_] == ["vae", "gan", "other"]
    monkeypatch.setattr(runner, "newest", lambda _: None)
    runner.run_jobs(listed_, tmp_path)
    (tmp_path / "other.json").unlink()
    assert runner.needed_runs(listed_, tmp_path) == {"vae", "gan"}
    programs.clear()
    runner.make_data(listed_, tmp_path)
    assert [argv[:3] for argv in programs] == [["data_shards", "make", "dsprites"]]


def test_what_needs_a_failed_job_is_not_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would take an encoder that is not trained to its end."""
    started: list[str] = []

    def program(argv: list[str]) -> str:
        started.append(argv[1])
        raise Failed("exit code 2")

    monkeypatch.setattr(runner, "run_program", program)
    reasons = {"vae": "exit code 2", "gan": "it needs vae, which failed"}
    assert runner.run_jobs(listed(only="gan"), tmp_path) == reasons
    assert started == ["vae"]
    assert runner.run_jobs(listed(only="gan")[1:], tmp_path, before={"vae": "no data"}) == reasons | {"vae": "no data"}
    assert started == ["vae"], "its data could not be made"
    assert "gan: failed: it needs vae, which failed" in capsys.readouterr().err


def test_each_data_set_is_made_once_and_not_for_what_is_complete(
    programs: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert runner.make_data(listed(), tmp_path) == {}
    assert [argv[:3] for argv in programs] == [["data_shards", "make", "dsprites"]]
    runner.run_jobs(listed(), tmp_path)
    programs.clear()
    assert runner.make_data([job for job in listed() if job.name != "vae-1"], tmp_path) == {}
    assert not programs

    def program(argv: list[str]) -> str:
        raise Failed("exit code 2")

    monkeypatch.setattr(runner, "run_program", program)
    assert runner.make_data(listed(), tmp_path) == {"vae-1": "no data: exit code 2"}


def test_elements_of_a_job_array_are_one_job_each_after_what_it_needs(
    programs: list[list[str]], tmp_path: Path
) -> None:
    assert [[job.name for job in stage] for stage in jobs.stages(listed())] == [["vae", "vae-1", "other"], ["gan"]]
    assert [job.name for job in runner.element(listed(), tmp_path, "0.2")] == ["other"]
    with pytest.raises(UserError, match="gan: needs vae, which is not complete; run it first"):
        runner.element(listed(), tmp_path, "1.0")
    runner.run_jobs(listed(), tmp_path)
    assert [job.name for job in runner.element(listed(), tmp_path, "1.0")] == ["gan"]
    for wrong, words in (
        ("2.0", "give STAGE.NUMBER, with a stage below 2"),
        ("x", "give STAGE"),
        ("0.3", "has 3 jobs"),
    ):
        with pytest.raises(UserError, match=words):
            runner.element(listed(), tmp_path, wrong)


def test_what_is_left_is_told_at_the_pace_of_what_was_run(
    programs: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The first job takes half of its two hours; the second one fails, which says nothing of the pace."""
    times = iter([0.0, 3600.0, 3600.0, 3700.0, 7300.0, 7300.0, 9000.0])
    monkeypatch.setattr(runner.time, "monotonic", lambda: next(times))
    runner.run_jobs(listed(), tmp_path)
    told = re.findall(r"about (\S+); all that is left: (\S+)", capsys.readouterr().err)
    assert told == [("2:00:00", "6:00:00"), ("1:00:00", "2:00:00"), ("0:30:00", "1:00:00"), ("0:40:00", "0:40:00")]


@pytest.mark.usefixtures("programs")
def test_a_result_of_other_settings_or_a_damaged_one_is_neither_taken_nor_overwritten(tmp_path: Path) -> None:
    runner.run_jobs(listed(only="other"), tmp_path)
    before = (tmp_path / "other.json").read_bytes()
    changed = experiment(**of("other", overrides=["beta.value=2"]))
    with pytest.raises(UserError, match=r"other.json: is the result of another training; move it away"):
        runner.run_jobs(jobs.jobs(changed, "full", changed.budgets["full"]), tmp_path)
    assert (tmp_path / "other.json").read_bytes() == before
    (tmp_path / "other.json").write_text("{")
    with pytest.raises(UserError, match=r"other.json: is damaged; remove it"):
        runner.run_jobs(listed(only="other"), tmp_path)


@pytest.mark.usefixtures("programs")
def test_output_that_is_no_record_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "run_program", lambda argv: "no object")
    assert list(runner.run_jobs(listed(only="gan"), tmp_path)) == ["gan"], "vae measures nothing"


def test_the_shipped_models_at_a_tiny_size_and_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Takes more than ten seconds: every job is four programs or five, with few images behind MIG."""
    monkeypatch.setattr(runner, "run_program", lambda argv: finish(small_program(tmp_path, argv)).out)
    monkeypatch.chdir(tmp_path)
    experiment = experiment_file.load("results")
    found = jobs.jobs(experiment, "tiny", experiment.budgets["tiny"], seeds=1)
    assert runner.make_data(found, tmp_path / "results") == {}
    assert runner.run_jobs(found, tmp_path / "results") == {}
    assert [job.cell for job in found] == list(experiment.cells)
    for job in found:
        result = json.loads((tmp_path / f"results/{job.name}.json").read_text())
        assert len(result["records"]) == len(experiment.cells[job.cell].measure)
        assert all("command" in record for record in result["records"]), job.name
        assert result["last_tick"]["images_seen"] == 32
        assert str(ROOT) not in json.dumps(result["job"]), "it is the same on another machine"
    capsys.readouterr()
    monkeypatch.delattr(runner, "run_program")
    assert runner.run_jobs(found, tmp_path / "results") == {}
    assert len(re.findall(r": complete, see ", capsys.readouterr().err)) == len(found)


def test_a_signal_reaches_the_training_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """Takes more than ten seconds: a training in a program of a program, stopped and resumed.

    It is a program as for a user; the data and the pictures are made by forks.
    """
    content = of("other", overrides=["schedule.total_kimg=0.2", "schedule.tick_kimg=0.002", "batch_size=2"])
    content |= {"sets": {"sprites": "dsprites --count 8 --workers 1"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    run, command = tmp_path / "runs/full/other", ("run", "mine.yaml", "--only", "other")
    stopped = experiments.run(tmp_path, *command, real=["trainer"])
    while not (run / "stats.jsonl").exists():
        assert stopped.process.is_alive(), stopped.err
        time.sleep(0.05)
    stopped.kill(signal.SIGTERM)
    finish(stopped, 75)
    assert json.loads((run / "exit.json").read_text())["reason"].startswith("SIGTERM at ")
    done = finish(experiments.run(tmp_path, *command, real=["trainer"]))
    assert f"resuming {run.relative_to(tmp_path)} at " in done.err
