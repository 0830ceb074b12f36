"""Verdicts on claims from results that are written here, and the forms that a test may have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from evaluation.experiments import claims, page, results, table
from evaluation.experiments.job_numbers import COLUMNS
from tests.evaluation.experiments.test_table import encoder, job, write
from trainer.experiments import experiment_file
from trainer.experiments.claims import Term, parse
from trainer.experiments.experiment_file import Experiment


def claimed(folder: Path, *tests: str) -> list[claims.Verdict]:
    """Verdicts on tests of what is in a folder."""
    path = folder / "cells.json"
    listed = json.loads(path.read_text())
    listed["claims"] = [{"says": "it is so", "source": "appendix B", "test": test} for test in tests]
    path.write_text(json.dumps(listed))
    return claims.verdicts(results.read(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two variants: FIDs of `a` are 1 and 2, then 4 and 8; of `b` 3 and 5, then one of two seeds."""
    fids = {"x-a": 1, "x-a-1": 2, "x-b": 3, "x-b-1": 5, "y-a": 4, "y-a-1": 8, "y-b": 6}
    cells = [(v, s, [f"{v}-{s}", f"{v}-{s}-1"]) for v in "xy" for s in "ab"]
    jobs: dict[str, dict[str, Any]] = {name: job(fid) for name, fid in fids.items()} | {"vae": encoder(0.25)}
    return write(tmp_path / "results", [*cells, ("", "vae", ["vae"])], jobs)


def test_a_test_reads_as_it_is_written() -> None:
    assert parse("a[R, nats] <= 0.5 * b[FID of the VAE] - 0.25") == (
        Term("a", "R, nats", False), Term("b", "FID of the VAE", False), 0.5, -0.25, False
    )  # fmt: skip
    assert parse(" a[x]<=b[y] + 2 ") == (Term("a", "x", False), Term("b", "y", False), 1, 2, False)
    assert parse("spread(a[FID]) <= 2") == (Term("a", "FID", True), None, 1, 2, False)
    assert parse("a[modes]>= 950") == (Term("a", "modes", False), None, 1, 950, True)
    assert parse("a[x] >= 2 * b[y] - 1") == (Term("a", "x", False), Term("b", "y", False), 2, -1, True)
    for wrong in ("a[x] < b[x]", "a[x] => b[x]", "a <= b", "a[x] <= b[x] * 2", "a[x] <= -1", "a[x] <= b[x] <= c[x]"):
        with pytest.raises(ValueError, match="it is no CELL"):
            parse(wrong)
    with pytest.raises(ValueError, match="a spread with a number"):
        parse("spread(a[FID]) <= b[FID]")


@pytest.mark.parametrize(
    ("test", "in_x", "in_y"),
    [
        ("a[FID] <= b[FID]", "holds", "not measured"),
        ("b[FID] <= a[FID]", "does not hold", "not measured"),
        ("b[FID] <= 2 * a[FID]", "undecided at these seeds", "not measured"),
        ("b[FID] <= 2 * a[FID] + 3", "holds", "not measured"),
        ("a[FID] <= 2", "holds", "does not hold"),
        ("a[FID] <= 1.5", "undecided at these seeds", "does not hold"),
        ("a[FID] >= 1", "holds", "holds"),
        ("a[FID] >= 2", "undecided at these seeds", "holds"),
        ("a[FID] >= 8.5", "does not hold", "does not hold"),
        ("b[FID] >= a[FID]", "holds", "not measured"),
        ("a[FID] >= b[FID] - 2", "undecided at these seeds", "not measured"),
        ("a[FID] >= b[FID]", "does not hold", "not measured"),
        ("a[R, nats] <= 4 * a[FID] + 4", "holds", "undecided at these seeds"),
        ("a[MIG] <= vae[MIG]", "not measured", "not measured"),
    ],
)
def test_a_claim_holds_where_every_pair_of_seeds_does(folder: Path, test: str, in_x: str, in_y: str) -> None:
    assert [(v.variant, v.verdict) for v in claimed(folder, test)] == [("x", in_x), ("y", in_y)]


def test_the_spread_is_over_the_variants_seed_by_seed(folder: Path) -> None:
    found = claimed(folder, "spread(a[FID]) <= 4", "spread(b[FID]) <= 4", "vae[MIG] <= 0.3")
    assert [(v.left, v.verdict) for v in found[:2]] == [((4.0, 4.0), "holds"), ((), "not measured")]
    assert [(v.variant, v.verdict) for v in found[2:]] == [("x", "holds"), ("y", "holds")]


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        ("x-a[FID] <= 0.5 * y-a[FID]", "holds"),  # 1 and 2 of 4 and 8
        ("x-a[FID] <= 0.25 * y-a[FID]", "undecided at these seeds"),
        ("y-a[FID] <= x-a[FID]", "does not hold"),
        ("x-b[FID] <= y-b[FID]", "not measured"),
        ("vae[MIG] <= 0.1 * x-a[FID]", "does not hold"),
        ("x-a[FID] <= 100 * vae[FID of the VAE]", "not measured"),
    ],
)
def test_a_claim_may_compare_variants(folder: Path, test: str, verdict: str) -> None:
    assert [(found.variant, found.verdict) for found in claimed(folder, test)] == [("", verdict)]


@pytest.mark.parametrize(
    ("test", "in_x", "in_y"),
    [
        ("a[FID] <= b[FID]", "not comparable", "not measured"),
        ("b[FID] <= a[FID of the VAE]", "not comparable", "not measured"),
        ("a[FID] <= 2", "not comparable", "does not hold"),
        ("b[FID] <= 9", "holds", "not measured"),
        ("a[R2 x] <= b[R2 x]", "holds", "not measured"),
        ("a[R, nats] <= 3 * b[FID]", "holds", "not measured"),
        ("b[FID] <= 9 * a[R2 x]", "holds", "not measured"),
    ],
)
def test_numbers_of_two_networks_are_not_compared(folder: Path, test: str, in_x: str, in_y: str) -> None:
    """FID of one seed of x-a was measured by another network; that of R2 is one and the same, and R has none."""
    (folder / "x-a-1.json").write_text(json.dumps(job(2, network="f" * 64)))
    found = claimed(folder, test)
    assert [(each.variant, each.verdict) for each in found] == [("x", in_x), ("y", in_y)]
    assert (found[0].left == found[0].right == ()) == (in_x == "not comparable")


def test_nor_is_a_spread_over_variants_of_two_networks(folder: Path) -> None:
    for name, fid in (("y-a", 4), ("y-a-1", 8)):
        (folder / f"{name}.json").write_text(json.dumps(job(fid, network="f" * 64)))
    found = claimed(folder, "spread(a[FID]) <= 4", "spread(a[R, nats]) <= 4", "a[FID] <= 2")
    assert [(each.left, each.verdict) for each in found] == [
        ((), "not comparable"), ((4, 4), "holds"), ((1, 2), "holds"), ((4, 8), "does not hold"),
    ]  # fmt: skip


def test_a_spread_from_nothing_is_infinite(folder: Path) -> None:
    path = folder / "x-a.json"
    content = json.loads(path.read_text())
    for record in content["records"]:
        if record["command"] == "fid":
            record["kinds"]["gan"]["fidelity"] = 0.0
    path.write_text(json.dumps(content))
    (found,) = claimed(folder, "spread(a[fidelity]) <= 2")
    assert (found.left, found.verdict) == ((float("inf"), 1.0), "undecided at these seeds")
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["left"] == [None, 1.0]


def test_table_and_page_say_what_became_of_each(folder: Path) -> None:
    claimed(folder, "a[FID] <= b[FID]")
    found = results.read(folder)
    made = table.table(found)
    assert made.claims[0] == ["it is so (appendix B)", "x", "a[FID] <= b[FID]", "1, 2", "3, 5", "holds"]
    assert "| it is so (appendix B) | y | a[FID] <= b[FID] | 4, 8 |  | not measured |" in made.markdown
    assert "does not hold" not in page.write(found, made).read_text()
    assert ">holds<" in page.write(found, made).read_text()


def test_an_unknown_column_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"claims: a\[FIDD\] <= 2: FIDD is no column; choose from FID, "):
        claimed(folder, "a[FIDD] <= 2")


def test_claims_of_a_file_name_its_cells() -> None:
    cell = {"stage": "vae", "config": "configs/dsprites/vae.yaml", "set": "s", "hours": 1}
    content: dict[str, Any] = {
        "runs": "runs",
        "budgets": {"full": {}},
        "sets": {"s": "dsprites"},
        "cells": {"vae": cell},
    }
    tests = ["gan[FID] <= 1", "vae[FID] < 1", "spread(vae[FID]) <= 2", "vae[FID] <= 3"]
    content["claims"] = [{"says": "so", "source": "me", "test": test} for test in tests]
    assert experiment_file.contradictions(Experiment.model_validate(content)) == [
        "claims: gan[FID] <= 1: gan is no cell; choose from vae",
        "claims: vae[FID] < 1: it is no CELL[COLUMN] <= FACTOR * CELL[COLUMN] - MARGIN, "
        "nor CELL[COLUMN] <= NUMBER (or >=)",
        "claims: spread(vae[FID]) <= 2: vae exists once, and has no spread over variants",
    ]
    content["variants"] = {"x": {}, "y": {}}
    tests = ["x-vae[FID] <= y-vae[FID]", "z-vae[FID] <= 1", "vae[FID] <= x-vae[FID]", "spread(x-vae[FID]) <= 2"]
    content["claims"] = [{"says": "so", "source": "me", "test": test} for test in tests]
    assert experiment_file.contradictions(Experiment.model_validate(content)) == [
        "claims: z-vae[FID] <= 1: z-vae is no cell; choose from vae, x-vae, y-vae",
        "claims: vae[FID] <= x-vae[FID]: it compares a cell of one variant with one of every; "
        "name one of them, x-vae, y-vae",
        "claims: spread(x-vae[FID]) <= 2: x-vae is no cell; choose from vae",
    ]


def test_no_cell_is_called_as_another_one_in_a_variant() -> None:
    """x-a would mean both in a claim."""
    cell = {"stage": "vae", "config": "configs/dsprites/vae.yaml", "set": "s", "hours": 1}
    content: dict[str, Any] = {"runs": "runs", "budgets": {"full": {}}, "sets": {"s": "dsprites"}}
    content |= {"variants": {"x": {}}, "cells": {"a": cell, "x-a": cell}}
    assert experiment_file.contradictions(Experiment.model_validate(content)) == [
        "cells: two of them would be called x-a"
    ]


@pytest.mark.parametrize("name", experiment_file.names())
def test_shipped_claims_are_of_columns_that_there_are(name: str) -> None:
    tests = [parse(claim.test) for claim in experiment_file.load(name).claims]
    assert {term.column for test in tests for term in test.terms} <= COLUMNS.keys()
