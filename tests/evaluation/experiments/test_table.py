"""Tables of experiments from results that are written here: means, what is missing, what was measured differently."""

from __future__ import annotations

import csv
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from common.errors import UserError
from evaluation.experiments import job_numbers, page, results, table
from evaluation.records import printed_output
from tests.support import processes
from tests.support.evaluating import evaluate, refused, self_contained

PRIOR, SEEDS = 7.0, (0.5, 0.7, 0.9)
SETS = {"large": "sprites-1024"}  # of cells; those of all others: sprites


def job(
    fid: float, system: str = "ID-GAN", samples: int = 100, hours: float = 2.0, network: str = "e" * 64
) -> dict[str, Any]:
    """What the trainer writes of a finished job of stage 2. network: sha256 of that of FID."""
    own = {"fid": fid, "fidelity": 0.5, "precision": 0.25, "recall": 1.0}
    common = {"protocol": "factor-net", "extractor": network, "samples": samples, "seed": 0, "system": system}
    fids = [
        common | {"command": "fid", "codes": codes, "kinds": {"reference_count": 90, "gan": own | more, "vae": own}}
        for codes, more in (("posterior", {}), ("prior", {"fid": PRIOR}))
    ]
    r = {"command": "alignment", "extractor": "e" * 64, "samples": 60, "system": system}
    r |= {"kinds": {"gan": {"r2": {"x": 0.9, "y": 0.8, "scale": 0.7}, "accuracy": {"shape": 0.6}}}}
    r |= {"information": {"samples": 50, "kinds": {"gan": {"nats": 4.0 * fid, "error": 0.1}}}}
    other = {"command": "control", "system": system}  # which has no column
    return {"job": {"training": ["trainer", "gan", "x.yaml"]}, "hours": hours, "records": [*fids, r, other]}


def test_classes_and_leaks_of_a_job_are_columns() -> None:
    shape = {"square": {"own": 0.9, "any_code": 0.5}, "heart": {"own": 0.7, "any_code": 0.1}}
    labels = {"command": "labels", "extractor": "e" * 64, "samples": 60, "labels": {"shape": shape}}
    told = {"flip": 0.2, "color": 0.0, "cutout": 0.1}
    flagged: dict[str, Any] = {name: {"leak": share, "is_leak": share > 0} for name, share in told.items()}
    leaks = {"command": "leaks", "samples": 70, "transforms": flagged}
    result = {"job": {"training": ["trainer", "gan", "x.yaml"]}, "hours": 1.0, "records": [labels, leaks]}
    found = job_numbers.numbers(result)
    assert {column: number.value for column, number in found.items()} == {
        "class": pytest.approx(0.8), "class alone": pytest.approx(0.3), "leaks": 2
    }  # fmt: skip
    assert (found["class"].network, found["leaks"].network) == ("e" * 64, "")
    assert list(job_numbers.protocols(result)) == [
        "classes eeeeeeeeeeee, 60 images of each",
        "leaks flip, color, cutout, 70 images",
    ]
    flagged["turn"] = {"leak": None, "is_leak": False}
    assert "leaks" not in job_numbers.numbers(result), "a transform that cannot be told is not one without a leak"


def encoder(mig: float) -> dict[str, Any]:
    """The same of a VAE."""
    record = {"command": "disentanglement", "system": "beta-VAE", "fvm": {"protocol": "paper", "train_accuracy": 0.8}}
    record |= {"mig": {"protocol": "dlib", "score": mig}}
    return {"job": {"training": ["trainer", "vae", "x.yaml"]}, "hours": 1.0, "records": [record]}


def write(folder: Path, cells: list[tuple[str, str, list[str]]], jobs: dict[str, dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    listed = [
        {
            "name": f"{variant}-{system}" if variant else system,
            "variant": variant,
            "system": system,
            "set": SETS.get(system, "sprites"),
            "jobs": names,
        }
        for variant, system, names in cells
    ]
    (folder / "cells.json").write_text(json.dumps({"experiment": "mine", "budget": "small", "cells": listed}))
    for name, content in jobs.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
        (folder / name).mkdir()
        for picture in ("reals", "samples", "traversals", "joint"):
            Image.new("L", (8, 8)).save(folder / name / f"{picture}.webp")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the beta-VAE one seed is there, of the ID-GAN three, of the cGAN one of two, of the GAN nothing."""
    cells = [
        ("", "beta_vae", ["beta_vae"]), ("", "idgan", ["idgan", "idgan-1", "idgan-2"]),
        ("", "cgan", ["cgan", "cgan-1"]),
        ("", "gan", ["gan"]),
    ]  # fmt: skip
    done = {"beta_vae": encoder(0.3), "cgan": job(5, "cGAN")}
    done |= {name: job(fid, hours=fid) for name, fid in zip(("idgan", "idgan-1", "idgan-2"), SEEDS, strict=True)}
    return write(tmp_path / "results/mine/small", cells, done)


def rows(folder: Path) -> dict[str, dict[str, str]]:
    made = table.table(results.read(folder))
    return {row["system"]: row for row in csv.DictReader(made.csv.splitlines(), strict=True)}


def test_a_cell_has_mean_and_standard_deviation_over_its_seeds(folder: Path) -> None:
    row = rows(folder)["ID-GAN"]
    assert row["FID"] == f"{statistics.mean(SEEDS):.3g} ± {statistics.stdev(SEEDS):.3g}"
    nats = [4 * fid for fid in SEEDS]
    assert row["R, nats"] == f"{statistics.mean(nats):.2f} ± {statistics.stdev(nats):.2f}"
    assert (row["FID, prior"], row["seeds"], row["hours"]) == ("7 ± 0", "3", "0.70")
    assert (row["R2 scale"], row["shape"], row["MIG"]) == ("0.700 ± 0.000", "60.0% ± 0.0%", "")


def test_fid_is_that_of_the_codes_of_training_whatever_else_was_measured() -> None:
    """An InfoGAN's are of the prior: those of the posterior have no column, in either order, nor in `paper`."""
    result = job(5.0, "InfoGAN")
    posterior, prior, _, _ = result["records"]
    whole = {"command": "paper", "disentanglement": None, "information": None, "system": "InfoGAN", "extractor": "e"}
    whole["fid"] = {"posterior": {"fid": 5.0}, "prior": {"fid": PRIOR}}
    for records in ([posterior, prior], [prior, posterior], [whole]):
        found = job_numbers.numbers(result | {"records": records})
        assert (found["FID"].value, "FID, prior" in found) == (PRIOR, False)
    of_idgan = job_numbers.numbers(job(5.0) | {"records": [whole | {"system": "ID-GAN"}]})
    assert (of_idgan["FID"].value, of_idgan["FID, prior"].value) == (5.0, PRIOR)


def test_one_seed_has_no_deviation_and_an_encoder_no_images(folder: Path) -> None:
    row = rows(folder)["beta-VAE"]
    assert (row["MIG"], row["FVM"], row["FID"], row["seeds"]) == ("0.300", "0.800", "", "1")


def test_a_cell_that_is_not_complete_is_empty_and_says_so(folder: Path) -> None:
    found = rows(folder)
    for name, seeds in (("cGAN", "1 of 2"), ("gan", "0 of 1")):
        assert found[name]["seeds"] == seeds
        assert {cell for column, cell in found[name].items() if column not in ("cell", "system", "seeds")} == {""}


def test_the_head_says_how_all_was_measured_and_whose_was_measured_otherwise(folder: Path) -> None:
    fid = "FID factor-net eeeeeeeeeeee, 100 images against 90 reals, evaluation seed 0"
    assert table.table(results.read(folder)).measured == [
        "FVM paper, MIG dlib", fid, "R over 50 codes", "alignment eeeeeeeeeeee, 60 sources",
    ]  # fmt: skip
    (folder / "gan.json").write_text(json.dumps(job(9, "GAN", samples=50)))
    assert [line for line in table.table(results.read(folder)).measured if line.startswith("FID")] == [
        f"{fid} (idgan, cgan)",
        "FID factor-net eeeeeeeeeeee, 50 images against 90 reals, evaluation seed 0 (gan)",
    ]


def test_all_that_paper_counts_is_in_the_head() -> None:
    record = {"command": "paper", "system": "ID-GAN", "protocol": "legacy_pytorch", "extractor": "f" * 64}
    record |= {"samples": 2000, "reference_count": 1500, "seed": 3, "information": {"samples": 700}}
    record |= {"disentanglement": {"fvm": {"protocol": "short"}, "mig": {"protocol": "dlib"}}}
    assert list(job_numbers.protocols({"records": [record]})) == [
        "FID legacy_pytorch ffffffffffff, 2,000 images against 1,500 reals, evaluation seed 3",
        "FVM short, MIG dlib",
        "R over 700 codes",
    ]


def test_every_form_says_how_all_was_measured(folder: Path) -> None:
    """The terminal below the title, the page and Markdown at the top, the CSV beside each row that has numbers."""
    told = evaluate(folder, "table", folder).out
    lines = table.table(results.read(folder)).measured
    assert told.startswith("\n".join(["Experiment mine, budget small", *(f"* {line}" for line in lines), ""]))
    assert all(f"* {line}\n" in (folder / "table.md").read_text().split("|")[0] for line in lines)
    page_head = (folder / "index.html").read_text().split("<h2>")[0]
    assert all(line in page_head for line in lines)
    with open(folder / "table.csv", newline="") as stream:
        found = {row["system"]: row["measured"] for row in csv.DictReader(stream, strict=True)}
    own = [line for line in lines if not line.startswith("FVM")]
    assert found == {"beta-VAE": "FVM paper, MIG dlib", "ID-GAN": "; ".join(own), "cGAN": "", "gan": ""}


def test_numbers_of_two_networks_have_no_mean_and_the_head_says_so(folder: Path) -> None:
    (folder / "idgan-1.json").write_text(json.dumps(job(0.7, network="f" * 64)))
    row = rows(folder)["ID-GAN"]
    assert row.get("FID", "") == row.get("fidelity", "") == row.get("FID, prior", "") == ""
    assert row["R2 x"] == "0.900 ± 0.000", "whose network is the same in all seeds"
    assert row["R, nats"] == f"{4 * statistics.mean((0.5, 0.7, 0.9)):.2f} ± {4 * statistics.stdev((0.5, 0.7, 0.9)):.2f}"
    columns = "FID, FID, prior, FID of the VAE, precision, recall, fidelity"
    assert table.table(results.read(folder)).measured[-1] == (
        f"no mean of idgan's {columns}: its seeds were seen by networks eeeeeeeeeeee, ffffffffffff"
    )


def test_in_parts_every_number_stands_once_beside_its_cell_and_no_part_is_wider_than_a_terminal(folder: Path) -> None:
    made = table.table(results.read(folder))
    parts = list(made.parts())
    assert [column for number, (head, _) in enumerate(parts) for column in head[bool(number) :]] == made.head
    for head, rows in parts:
        assert head[0] == "cell"
        assert [row[0] for row in rows] == [row[0] for row in made.rows]
        assert all(row == [whole[made.head.index(c)] for c in head] for row, whole in zip(rows, made.rows, strict=True))
        widest = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
        assert sum(widest) + 3 * len(head) + 1 <= printed_output.WIDTH


def test_the_markdown_is_the_csv_with_a_legend(folder: Path) -> None:
    made = table.table(results.read(folder))
    text = made.markdown
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert [cells[0], *cells[2:]] == [row[:-1] for row in csv.reader(made.csv.splitlines())]
    assert all(f"* {column}: " in text for column in cells[0][4:])


def test_the_page_shows_what_is_there_beside_each_other(folder: Path) -> None:
    found = results.read(folder)
    text = page.write(found, table.table(found)).read_text()
    assert self_contained(text)
    titles = ("Random samples", "Traversals", "c against s", "Measured", "Columns")
    assert all(f"<h2>{title}</h2>" in text for title in titles)
    assert "FID over the variants" not in text
    traversed = text.split("<h2>Traversals</h2>")[1].split("<h2>")[0]
    assert [title in traversed for title in ("beta-VAE", "ID-GAN", "cGAN")] == [True, True, False]


def test_cells_of_another_data_set_are_shown_by_themselves_and_equal_systems_by_their_names(tmp_path: Path) -> None:
    """Two variants; an encoder of both on their data, an ID-GAN on larger images; two ID-GANs of one variant."""
    cells = [("", "encoder", ["encoder"]), ("", "large", ["large"])]
    cells += [("a", "one", ["a-one"]), ("a", "two", ["a-two"]), ("b", "one", ["b-one"])]
    done = {name: job(1) for name in ("large", "a-one", "a-two", "b-one")} | {"encoder": encoder(0.1)}
    found = results.read(write(tmp_path / "mine/small", cells, done))
    text = page.write(found, table.table(found)).read_text()
    shown = {}
    for section in text.split("<h2>Random samples ")[1:]:
        title, rest = section.split("</h2>", 1)
        shown[title] = re.findall(r"<figcaption>(.*?)</figcaption>", rest.split("<h2>")[0])
    assert shown == {
        "a": ["reals", "beta-VAE", "ID-GAN (a-one)", "ID-GAN (a-two)"],
        "b": ["reals", "beta-VAE", "ID-GAN"],
        "sprites-1024": ["reals", "ID-GAN"],
    }
    rows = list(csv.DictReader(table.table(found).csv.splitlines()))
    assert [row["cell"] for row in rows] == ["encoder", "large", "a-one", "a-two", "b-one"]


def test_variants_that_are_values_have_a_chart(tmp_path: Path) -> None:
    cells = [(value, "idgan", [f"{value}-idgan", f"{value}-idgan-1"]) for value in ("0.01", "0.1", "1")]
    done = {name: job(fid) for (_, _, names) in cells[:2] for name, fid in zip(names, (1, 2), strict=True)}
    found = results.read(write(tmp_path / "mine/small", cells, done))
    text = page.write(found, table.table(found)).read_text()
    assert "<h2>FID over the variants</h2>" in text
    assert "data:image/svg+xml" in text
    assert text.count("<h2>Random samples 0.") == 2, "of the variants that have some"


def test_a_line_of_the_chart_is_of_one_network(tmp_path: Path) -> None:
    """FIDs of two networks are joined by no line, and the legend says whose each is."""
    cells = [(value, "idgan", [f"{value}-idgan"]) for value in ("0.01", "0.1", "1")]
    done = {f"{value}-idgan": job(1, network=4 * n * 16) for value, n in (("0.01", "e"), ("0.1", "e"), ("1", "f"))}
    found = results.read(write(tmp_path / "mine/small", cells, done))
    assert page.fid_lines(found) == {
        "ID-GAN, seen by network eeeeeeeeeeee": [(0.01, 1, 0), (0.1, 1, 0)],
        "ID-GAN, seen by network ffffffffffff": [(1, 1, 0)],
    }


def test_two_systems_of_one_name_have_a_line_each(tmp_path: Path) -> None:
    cells = [(value, system, [f"{value}-{system}"]) for value in ("1", "2") for system in ("one", "two")]
    done = {name: job(int(name[0])) for _, _, (name,) in cells}
    assert page.fid_lines(results.read(write(tmp_path / "mine/small", cells, done))) == {
        "ID-GAN (one)": [(1, 1, 0), (2, 2, 0)],
        "ID-GAN (two)": [(1, 1, 0), (2, 2, 0)],
    }


def test_a_folder_without_results_and_a_damaged_one_are_refused(folder: Path, tmp_path: Path) -> None:
    asked = processes.command("evaluation", ("table", tmp_path), tmp_path / "logs")
    refused(asked, f"{tmp_path / 'cells.json'}: is not there; `python -m trainer experiments table NAME` writes it")
    (folder / "idgan-1.json").write_text("{")
    with pytest.raises(UserError, match=r"idgan-1.json: is damaged; remove it, and the job is measured again"):
        results.read(folder)
