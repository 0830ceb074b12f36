"""Cells of several variants: names, order and settings; the shipped experiments; the eight systems for real."""

from __future__ import annotations

import csv
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

import data_shards.__main__ as data_shards
import evaluation.__main__ as evaluation
from common.errors import UserError
from tests.support.evaluating import self_contained, small_program
from tests.support.training import finish
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, VaeConfig
from trainer.experiments import cells, experiment_file, jobs, programs, runner
from trainer.experiments.experiment_file import Experiment
from trainer.experiments.overrides import OverrideList, contradictions

ROOT = Path(__file__).parents[3]

SYSTEMS = ["VAE", "beta-VAE", "FactorVAE", "GAN", "InfoGAN", "cGAN", "ID-GAN without distillation", "ID-GAN"]


def cell(stage: str, **more: Any) -> dict[str, Any]:
    config = f"configs/dsprites/{'vae' if stage == 'vae' else 'idgan'}.yaml"
    return {"stage": stage, "config": config, "set": "sprites", "hours": 1, **more}


def experiment(**changes: Any) -> Experiment:
    content: dict[str, Any] = {
        "runs": "runs",
        "budgets": {
            "full": {},
            "small": {
                "hours": {"gan": 0.2}, "overrides": ["c_dim=1"], "stage_1": ["c_dim=2"], "stage_2": ["c_dim=3"],
                "cells": {"gan": ["c_dim=4"]},
            },
        },
        "sets": {"sprites": "dsprites"},
        "variants": {"a": {"overrides": ["s_dim=6"]}, "b": {}},
        "cells": {
            "vae": cell("vae"),
            "gan": cell("gan", vae="vae", overrides=["c_dim=7"]),
            "best": cell("gan", vae="b-vae", once=True),
            "first": cell("vae", once=True),
            "last": cell("gan", vae="first"),
        },
    }  # fmt: skip
    return Experiment.model_validate(content | changes)


def test_each_cell_exists_for_every_variant_and_after_what_it_needs() -> None:
    placed = cells.placed_cells(experiment())
    assert list(placed) == ["first", "a-vae", "a-gan", "a-last", "b-vae", "best", "b-gan", "b-last"]
    needs = {name: each.vae for name, each in placed.items() if each.vae}
    assert needs == {"a-gan": "a-vae", "a-last": "first", "best": "b-vae", "b-gan": "b-vae", "b-last": "first"}
    assert [each.system for each in placed.values()][:3] == ["first", "vae", "gan"]


def test_later_overrides_are_the_more_special_ones_beside_the_variants_own() -> None:
    found = experiment()
    assert experiment_file.contradictions(found) == []
    small = {job.name: job for job in jobs.jobs(found, "small", found.budgets["small"])}
    assert small["a-gan"].training[-5:] == ["s_dim=6", "c_dim=7", "c_dim=1", "c_dim=3", "c_dim=4"]
    assert small["a-vae"].training[-3:] == ["s_dim=6", "c_dim=1", "c_dim=2"]
    assert (small["a-gan"].hours, small["a-vae"].hours) == (0.2, 1)


def test_in_config_and_set_stands_the_variants_name() -> None:
    photographs = experiment_file.load("photographs")
    found = {job.name: job for job in jobs.jobs(photographs, "paper", photographs.budgets["paper"])}
    assert found["chairs-gan"].training[2] == "configs/chairs/gan.yaml"
    assert "data.path=data/chairs-64" in found["chairs-gan"].training
    assert "vae=runs/photographs/paper/celeba-beta_vae" in found["celeba_hq-idgan"].training
    assert len(found) == 3 * 6 + 5


WRONG = [
    ({"cells": {"vae": cell("vae"), "best": cell("gan", vae="vae", once=True)}}, "best.vae: vae exists for every var"),
    ({"cells": {"vae": cell("vae", set="{variant}s")}}, "cells.vae.set: as is no set; choose from sprites"),
    ({"cells": {"vae": cell("vae", config="configs/{variant}/x.yaml")}}, "cells.vae.config: configs/a/x.yaml: no such"),
    ({"cells": {"gan": cell("gan", vae="c-vae")}}, "cells.gan.vae: c-vae is no cell; choose from gan"),
    ({"cells": {"gan": cell("gan", measure=["fidd --samples 9"])}}, "'fidd --samples 9': fidd measures no run; choose"),
    ({"budgets": {"full": {"measure": {"fid": ""}}}}, "budgets.full: measure: no cell is measured by fid"),
    ({"cells": {"vae": cell("vae"), "a-vae": cell("vae", once=True)}}, "cells: two of them would be called a-vae"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_a_wrong_file_is_refused(changes: dict[str, Any], words: str) -> None:
    assert any(words in problem for problem in experiment_file.contradictions(experiment(**changes)))


def changed(place: str, override: str) -> dict[str, Any]:
    """The changes of `experiment` that put an override into the list at a place; variant b gets two of its own."""
    own = ["data.variant=color", "beta={value: 4}"]
    budgets: dict[str, Any] = {"small": {"cells": {}}}
    content = {
        "variants": {"a": {}, "b": {"overrides": own}},
        "cells": {"vae": cell("vae"), "first": cell("vae", once=True)},
        "budgets": budgets,
    }
    at: dict[str, Any] = content
    *parents, last = place.split(".")
    for parent in parents:
        at = at[parent]
    at[last] = [*at.get(last, []), override]
    return content


@pytest.mark.parametrize(
    ("place", "override", "refused_for"),
    [
        ("cells.vae.overrides", "data.variant=plain", "data.variant=color"),
        ("cells.vae.overrides", "beta={value: 2}", "beta={value: 4}"),
        ("budgets.small.overrides", "beta.value=1", "beta={value: 4}"),
        ("budgets.small.stage_1", "beta.value=1", "beta={value: 4}"),
        ("budgets.small.cells.vae", "beta.value=1", "beta={value: 4}"),
        ("budgets.small.stage_2", "beta.value=1", None),  # no cell of stage 2
        ("budgets.small.cells.first", "beta.value=1", None),  # a cell of all variants has none of its own
        ("cells.first.overrides", "beta.value=1", None),
        ("cells.vae.overrides", "data.flip=false", None),
        ("cells.vae.overrides", "beta_2=1", None),
    ],
)
def test_what_a_variant_sets_no_other_list_of_its_cells_sets(
    place: str, override: str, refused_for: str | None
) -> None:
    problems = experiment_file.contradictions(experiment(**changed(place, override)))
    words = f"{place}: {override}: would replace {refused_for} of variants.b.overrides, which the variant is named for"
    assert problems == ([f"{words}; leave it out here, or there"] if refused_for else [])


@pytest.mark.parametrize(
    ("overrides", "twice"),
    [
        (["r1=1", "r1=1"], True),
        (["data.flip=true", "data={path: x}"], True),
        (["data={}", "data.flip=true"], True),
        (["r1=1", "r1_interval=2", "data.flip=true", "data.variant=color"], False),
    ],
)
def test_a_list_sets_a_key_once_whole_or_in_part(overrides: list[str], twice: bool) -> None:
    for place in ("variants.a.overrides", "cells.gan.overrides", "budgets.small.cells.gan"):
        found = contradictions([OverrideList(place, overrides, of_variants=False)], {})
        words = f"{place}: {overrides[-1]}: the same list sets it by {overrides[0]}; leave one of the two out"
        assert (words in list(found)) == twice


def test_seven_cells_of_one_lambda_are_refused(tmp_path: Path) -> None:
    shipped = (experiment_file.FOLDER / "lambda.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(shipped.replace("{overrides: [code_weight=0.3]}", "{}").replace(
        "      infogan: [optimizer_q.lr=3e-4]", "      idgan: [code_weight=0.03]"
    ))  # fmt: skip
    with pytest.raises(UserError) as error:
        experiment_file.load(str(tmp_path / "mine.yaml"))
    assert str(error.value) == (
        f"{tmp_path / 'mine.yaml'}: 1 problem\n  - budgets.small.cells.idgan: code_weight=0.03: would replace "
        "code_weight=0.001 of variants.0.001.overrides and 5 more, which the variant is named for; leave it out here, "
        "or there"
    )


@pytest.mark.parametrize("name", experiment_file.names())
def test_the_trainer_takes_the_settings_of_every_shipped_cell_at_every_budget(name: str) -> None:
    found = experiment_file.load(name)
    for budget, content in found.budgets.items():
        runner.refuse_wrong_settings(jobs.jobs(found, budget, content, seeds=2))


@pytest.mark.parametrize("name", experiment_file.names())
def test_data_shards_and_evaluation_take_every_command_line_of_the_shipped_experiments(name: str) -> None:
    """Their options alone are read; the measures that a file may name are commands of evaluation."""
    found = experiment_file.load(name)
    for budget, content in found.budgets.items():
        for job in jobs.jobs(found, budget, content):
            parse(data_shards.app, job.data[1:])
            for argv in job.measurements:
                parse(evaluation.app, argv[1:])
    assert set(experiment_file.MEASURES) <= command_of(evaluation.app).commands.keys()


@functools.cache
def command_of(app: typer.Typer) -> Any:
    """The command of an app, which takes a tenth of a second to build."""
    return typer.main.get_command(app)


@pytest.mark.parametrize("name", experiment_file.names())
def test_no_cell_of_a_small_budget_is_expected_to_take_more_than_20_minutes(name: str) -> None:
    found = experiment_file.load(name)
    if "small" in found.budgets:
        small = jobs.jobs(found, "small", found.budgets["small"])
        assert {job.name: job.hours for job in small if job.hours > 1 / 3} == {}


def parse(app: typer.Typer, argv: list[str]) -> None:
    """Read a command line; raises where a program would refuse it."""
    command = command_of(app)
    while hasattr(command, "commands"):
        command, argv = command.commands[argv[0]], argv[1:]
    command.make_context("command", list(argv))


def test_the_list_that_the_docs_show_has_the_cells_that_they_name(tmp_path: Path) -> None:
    page = Path("docs/experiments.md").read_text()
    (content,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(content)
    found = experiment_file.load(str(tmp_path / "mine.yaml"))
    placed = cells.placed_cells(found)
    assert f"The cells here are {', '.join(list(placed)[:-1])} and {list(placed)[-1]}" in page
    assert placed["color-gan"].vae == "color-vae"
    runner.refuse_wrong_settings(jobs.jobs(found, "short", found.budgets["short"]))


def test_the_results_that_the_project_holds_are_of_todays_experiments() -> None:
    """A changed file or config would leave them as results of other settings, which nothing takes."""
    for folder in (ROOT / "results").glob("*/*"):
        found = experiment_file.load(folder.parent.name)
        name, budget = experiment_file.chosen(found, folder.name)
        listed = jobs.jobs(found, name, budget, seeds=3)
        complete = {job.name for job in listed if runner.is_complete(job, folder)}
        assert complete == {path.stem for path in folder.glob("*.json")} - {"cells"} != set()


def test_settings_that_contradict_are_all_refused_before_anything_is_trained() -> None:
    found = experiment(cells={"vae": cell("vae", overrides=["beta.valu=2"]), "gan": cell("gan", overrides=["r1=-1"])})
    with pytest.raises(UserError) as error:
        runner.refuse_wrong_settings(jobs.jobs(found, "full", found.budgets["full"]))
    for words in ("these cells cannot be trained: 4 problems", "a-vae: ", "b-vae: ", "beta.valu", "b-gan: ", "r1"):
        assert words in str(error.value)


def test_the_small_budget_of_the_family_is_equal_in_iterations_and_batch_size() -> None:
    family = experiment_file.load("dsprites_family")
    found = set()
    for job in jobs.jobs(family, "small", family.budgets["small"], only="plain-*"):
        kind = VaeConfig if job.training[1] == "vae" else GanConfig
        config = load_config(kind, Path(job.training[2]), job.training[3:])
        taken = config.batch_size * (2 if config.system == "FactorVAE" else 1)
        found.add((config.schedule.total_kimg * 1000 / taken, config.batch_size, config.seed))
    assert found == {(6000, 16, 0)}


@pytest.mark.slow
def test_the_eight_systems_at_a_tiny_budget_again_and_in_a_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Takes more than ten seconds: eight systems are trained and measured, from few images behind MIG and FVM."""
    monkeypatch.setattr(runner, "run_program", lambda argv: finish(small_program(tmp_path, argv)).out)
    monkeypatch.chdir(tmp_path)
    family = experiment_file.load("dsprites_family")
    found = jobs.jobs(family, "tiny", family.budgets["tiny"], only="color-*")
    results = Path("results/dsprites_family/tiny")
    assert runner.make_data(found, results) == {}
    assert runner.run_jobs(found, results) == {}
    for job in found:
        sheet = Image.open(results / job.name / "samples.webp")
        assert sheet.size == (8 * 66 + 2, 4 * 66 + 2)
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    monkeypatch.delattr(runner, "run_program")
    assert runner.run_jobs(found, results) == {}, "all of it is there"
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before
    _the_table_has_the_records_numbers(found, results, cells.placed_cells(family))


def _the_table_has_the_records_numbers(
    found: list[jobs.Job], results: Path, placed: dict[str, cells.PlacedCell]
) -> None:
    runner.publish_cells(found, results, placed, ())
    told = programs.run_program(["evaluation", "table", str(results)])
    assert json.loads(told.splitlines()[-1])["files"][0] == str(results / "table.csv")
    with open(results / "table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["system"] for row in rows] == SYSTEMS
    for row, job in zip(rows, found, strict=True):
        records = json.loads((results / f"{job.name}.json").read_text())["records"]
        own = "gan" if job.training[1] == "gan" else "vae"
        assert float(row["FID"]) == pytest.approx(records[0]["kinds"][own]["fid"], rel=0.01)
        assert (row["cell"], row["seeds"]) == (job.cell, "1")
        assert bool(row["MIG"]) == any(record["command"] == "disentanglement" for record in records)
        assert bool(row["R, nats"]) == (row["system"] != "GAN")
    page = (results / "index.html").read_text()
    assert self_contained(page)
    assert page.count("data:image/webp") == 1 + 8 + 3, "reals, samples of all, traversals of three; no s, so no joint"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kept", "values"),
    [("faces", ("beta_vae", "idgan"), ()), ("lambda", ("beta_vae", "infogan", "idgan"), ("0.01", "1"))],
)
def test_one_cell_of_each_kind_at_a_tiny_budget_and_what_became_of_the_claims(
    name: str, kept: tuple[str, ...], values: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Takes more than ten seconds: two and five jobs, each of three programs and more; FVM and MIG are left out."""
    monkeypatch.setattr(runner, "run_program", lambda argv: finish(small_program(tmp_path, argv)).out)
    monkeypatch.chdir(tmp_path)
    found = _part_of(experiment_file.load(name), kept, values)
    listed = jobs.jobs(found, "tiny", found.budgets["tiny"])
    assert [job.name for job in listed] == (
        ["beta_vae", *(f"{value}-{cell}" for value in values for cell in kept[1:])] if values else list(kept)
    )
    results = Path("results") / name / "tiny"
    assert runner.make_data(listed, results) == {}
    assert runner.run_jobs(listed, results) == {}
    runner.publish_cells(listed, results, cells.placed_cells(found), found.claims)
    told = json.loads(runner.run_program(["evaluation", "table", str(results)]).splitlines()[-1])
    of_claims = {claim["claim"]["test"]: claim for claim in told["claims"]}
    page = (results / "index.html").read_text()
    assert ("<h2>FID over the variants</h2>" in page, "<h2>c against s</h2>" in page) == (bool(values), not values)
    if values:
        assert len(of_claims) == 2
        claim = of_claims["spread(idgan[FID]) <= spread(infogan[FID])"]
        expected = [_spread(results, [f"{value}-{cell}" for value in values]) for cell in ("idgan", "infogan")]
    else:
        ((test, claim),) = of_claims.items()
        assert test == "idgan[FID] <= 0.5 * idgan[FID of the VAE]", "of the others a cell is not there"
        expected = [_fid(results, "idgan", "gan"), _fid(results, "idgan", "vae")]
    assert (claim["left"], claim["right"]) == ([pytest.approx(expected[0])], [pytest.approx(expected[1])])
    holds = expected[0] <= expected[1] * (1 if values else 0.5)
    assert claim["verdict"] == ("holds" if holds else "does not hold")


def _part_of(whole: Experiment, kept: tuple[str, ...], values: tuple[str, ...]) -> Experiment:
    """Some cells and variants of an experiment, without the measurement that takes nine seconds."""
    content = whole.model_dump()
    content["cells"] = {name: content["cells"][name] for name in kept}
    content["variants"] = {value: content["variants"][value] for value in values}
    for each in content["cells"].values():
        each["measure"] = [line for line in each["measure"] if line != "disentanglement"]
    return Experiment.model_validate(content)


def _spread(results: Path, names: list[str]) -> float:
    fids = [_fid(results, name, "gan") for name in names]
    return max(fids) / min(fids)


def _fid(results: Path, job: str, kind: str) -> float:
    """FID of a kind of images with the codes of the training, which is what a job's first record has."""
    records = json.loads((results / f"{job}.json").read_text())["records"]
    return float(records[0]["kinds"][kind]["fid"])
