"""`compare`: one row a run, from records that are measured once; what cannot be compared is refused at once."""

from __future__ import annotations

import csv
import json
import statistics
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from benchmarks.fid import network
from evaluation import measure
from evaluation.pages.comparison import Measured
from evaluation.pages.comparison_cells import means
from tests.support import processes, replicas
from tests.support.data_sets import hashes
from tests.support.evaluating import (
    answer,
    lines,
    quick,
    quick_by_few_features,
    quickly,
    refused,
    self_contained,
    unmeasured,
)
from tests.support.training import finish, train_system, two_at_a_time
from trainer.config.load import load_config
from trainer.config.schema import GanConfig

NAMES = {"idgan": "ID-GAN", "gan": "GAN", "infogan": "InfoGAN", "cgan": "cGAN", "factor_vae": "FactorVAE"}
COMMANDS = ("fid", "disentanglement", "alignment")
COUNT = 64
WEIGHTS = "inception-2015-12-05.pt"
Records = dict[tuple[str, str], list[str]]


def copies(systems: dict[str, Path], folder: Path, *names: str) -> dict[str, Path]:
    """Runs without their records."""
    return {name: unmeasured(systems[name], folder / name) for name in names}


def compare(runs: dict[str, Path], out: Path, *more: object) -> processes.Running:
    argv = ("compare", *runs.values(), "--out", out, "--samples", COUNT, *more)
    return finish(quickly(out.parent / "logs", *argv))


def records(runs: dict[str, Path]) -> Records:
    return {(name, command): lines(run, command) for name, run in runs.items() for command in COMMANDS}


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "compare.csv", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


@pytest.fixture(scope="module")
def runs(systems: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return copies(systems, tmp_path_factory.mktemp("runs"), *NAMES)


@pytest.fixture(scope="module")
def first(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[processes.Running, Path, Records]:
    """The first comparison, its folder, and the records that it left."""
    out = tmp_path_factory.mktemp("compare") / "page"
    return compare(runs, out), out, records(runs)


Compared = tuple[processes.Running, Path, Records]


def test_the_csv_has_a_row_for_reals_and_one_for_each_run(runs: dict[str, Path], first: Compared) -> None:
    rows = rows_of(first[1])
    assert [row["system"] for row in rows] == ["reals", *NAMES.values()]
    assert [row["run"] for row in rows] == ["", *map(str, runs.values())]
    assert [(row["iterations"], row["batch"]) for row in rows] == [("", ""), *[("5", "16")] * 5]
    assert all(None not in row and None not in row.values() for row in rows), "as many cells as columns"


@pytest.mark.parametrize("name", NAMES)
def test_the_cells_are_the_records_numbers(name: str, first: Compared) -> None:
    row = rows_of(first[1])[1 + list(NAMES).index(name)]
    found: dict[str, Any] = {c: json.loads(r[0]) if (r := first[2][name, c]) else None for c in COMMANDS}
    kind = "vae" if name == "factor_vae" else "gan"
    fid, untrained = found["fid"]["kinds"][kind], found["fid"]["kinds"].get("untrained")
    assert float(row["FID"]) == pytest.approx(fid["fid"], rel=0.01)
    assert row["fidelity"] == f"{100 * fid['fidelity']:.1f}%"
    assert (row["untrained"], row["ratio"]) == ("", "") if kind == "vae" else float(row["untrained"]) > 0
    if untrained:
        assert float(row["untrained"]) == pytest.approx(untrained["fid"], rel=0.01)
        assert float(row["ratio"]) == pytest.approx(untrained["fid"] / fid["fid"], abs=0.051)
    if name == "gan":
        assert row["encoder"] == "none"
        assert {row[c] for c in ("MIG", "FVM", "R2 x", "R2 y", "R2 scale", "parts")} == {""}
        return
    seen = found["alignment"]["kinds"][kind]
    for cell, value in (
        ("MIG", found["disentanglement"]["mig"]["score"]),
        ("FVM", found["disentanglement"]["fvm"]["train_accuracy"]),
        *((f"R2 {factor}", seen[factor]) for factor in ("x", "y", "scale")),
    ):
        assert float(row[cell]) == pytest.approx(value, abs=0.00051)
    assert row["parts"] == f"{100 * seen['shape']:.1f}%"
    assert row["encoder"] == found["disentanglement"]["encoder"] == found["alignment"]["encoder"]


def test_reals_are_the_floor_of_fid_and_the_ceiling_of_alignment(first: Compared) -> None:
    reals, *rest = rows_of(first[1])
    assert float(reals["FID"]) < min(float(row["FID"]) for row in rest)
    for column in ("R2 x", "R2 y", "R2 scale"):
        assert float(reals[column]) > max(float(row[column]) for row in rest if row[column])
    assert reals["fidelity"] == "100.0%"
    assert {reals[c] for c in ("MIG", "FVM", "untrained", "ratio")} == {""}


def test_the_ceiling_does_not_hang_on_which_run_is_named_first(runs: dict[str, Path], tmp_path: Path) -> None:
    both = {name: runs[name] for name in ("gan", "infogan")}
    compare(both, tmp_path / "a")
    compare(dict(reversed(both.items())), tmp_path / "b")
    one, other = rows_of(tmp_path / "a"), rows_of(tmp_path / "b")
    assert one[0] == other[0]
    assert one[1:] == other[:0:-1]


def test_the_markdown_table_has_the_cells_of_the_csv(first: Compared) -> None:
    text = (first[1] / "compare.md").read_text()
    table = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    head, rule, *rows = table
    assert set(rule) == {"---"}
    assert [dict(zip(head, row, strict=True)) for row in rows] == rows_of(first[1])
    for name in head:
        assert f"* {name}: " in text
    assert f"FID and alignment from {COUNT} images" in text


def test_the_page_of_a_compared_run_shows_its_own_images(
    runs: dict[str, Path], first: Compared, tmp_path: Path
) -> None:
    """Also of the run whose newest record is of the reals alone, and with the command that made them, once."""
    page = Path(answer(finish(quickly(tmp_path, "report", runs["idgan"])))["page"]).read_text()
    (own,) = [r for line in first[2]["idgan", "fid"] if "gan" in (r := json.loads(line))["kinds"]]
    quality = page.split("<h2>Quality</h2>")[1].split("<h2>")[0]
    assert f"<td>{own['kinds']['gan']['fid']:.3g}</td>" in quality
    assert "untrained generator" in quality
    assert page.split("<h2>The commands")[1].count("-m evaluation compare") == 1


def test_the_picture_has_a_block_for_the_reals_and_each_run(
    runs: dict[str, Path], first: Compared, tmp_path: Path
) -> None:
    """Left of each block are the run's own samples: those that `figures` draws.

    Takes more than ten seconds: all figures of five runs are drawn.
    """
    picture = Image.open(first[1] / "compare.png").convert("RGB")
    samples, traversal = 5 * 66 + 2, 5 * 68
    width = 8 * 66 + 2
    assert picture.size == (120 + width + 16 + 34 + 7 * 66 + 2, samples + 5 * (12 + traversal))
    tops = [0, *(samples + 12 + k * (12 + traversal) for k in range(5))]
    for top, (name, file) in zip(tops, [("idgan", "reals"), *((name, "samples") for name in runs)], strict=True):
        finish(quickly(tmp_path, "figures", runs[name]))
        own = Image.open(runs[name] / "evaluation" / "figures" / f"{file}.png").convert("RGB")
        block = picture.crop((120, top, 120 + width, top + samples))
        assert block.tobytes() == own.crop((0, 0, width, samples)).tobytes(), name


def test_the_page_is_self_contained_and_says_how_everything_was_made(runs: dict[str, Path], first: Compared) -> None:
    text = (first[1] / "index.html").read_text()
    assert self_contained(text)
    assert text.count("data:image/png;base64,") == 1
    assert text.count("<tr>") == 1 + 1 + len(runs)
    for run in runs:
        assert f"configs/dsprites/{run}.yaml" in text
    assert "NOT EQUAL" not in text


def test_the_answer_lists_the_files_and_the_table_is_printed(first: Compared) -> None:
    running, out, _ = first
    files = answer(running)["files"]
    assert [Path(path) for path in files] == [out / f"compare.{end}" for end in ("csv", "md", "png")] + [
        out / "index.html"
    ]
    assert all(name in running.out for name in NAMES.values())


def test_every_measure_is_taken_once(first: Compared) -> None:
    counts = {key: len(found) for key, found in first[2].items()}
    expected = {(name, command): 1 for name in NAMES for command in COMMANDS}
    expected |= {("idgan", "fid"): 2, ("gan", "disentanglement"): 0, ("gan", "alignment"): 0}  # 2: one of the reals
    assert counts == expected


def test_runs_on_one_frozen_encoder_get_the_numbers_that_each_alone_gets(
    systems: dict[str, Path], first: Compared, tmp_path: Path
) -> None:
    alone = copies(systems, tmp_path / "runs", "cgan")["cgan"]
    measured = answer(finish(quickly(tmp_path, "disentanglement", alone, "--protocol", "short")))
    shared = [json.loads(first[2][name, "disentanglement"][0]) for name in ("cgan", "idgan", "factor_vae")]
    for record in shared:
        for key in ("encoder_sha256", "seed", *measure.SCORES):
            assert record[key] == measured[key]
    assert [record["run"] for record in shared[:2]] == [rows_of(first[1])[row]["run"] for row in (4, 1)]
    assert [record["encoder"] for record in shared] == [measured["encoder"]] * 2 + ["the FactorVAE of this run"]


def measuring_nothing(argv: list[str]) -> None:
    """An evaluation that fails where anything is measured."""
    from evaluation import measure

    def fail(*args: Any, **more: Any) -> None:
        raise AssertionError("measured again")

    measure.fid = measure.disentanglement = measure.alignment = fail  # type: ignore[assignment]
    quick(argv)


def test_a_second_comparison_measures_nothing_and_says_the_same(
    runs: dict[str, Path], first: Compared, tmp_path: Path
) -> None:
    """Takes more than ten seconds: pictures of five runs are drawn again."""
    before = {name: hashes(run) for name, run in runs.items()}
    argv = ["compare", *map(str, runs.values()), "--out", str(tmp_path / "page"), "--samples", str(COUNT)]
    finish(processes.start(measuring_nothing, (argv,), tmp_path))
    assert {name: hashes(run) for name, run in runs.items()} == before
    assert hashes(tmp_path / "page") == hashes(first[1])


def test_another_seed_or_number_of_samples_is_measured_and_added(
    systems: dict[str, Path], first: Compared, tmp_path: Path
) -> None:
    """Takes more than ten seconds: two runs are measured three times."""
    runs = copies(systems, tmp_path / "runs", "infogan", "gan")
    compare(runs, tmp_path / "page")
    old = records(runs)
    for more in (("--seed", 1), ("--samples", 80)):
        compare(runs, tmp_path / "page", *more)
        new = records(runs)
        added = {key: len(new[key]) - len(old[key]) for key in new}
        mine = 0 if "--samples" in more else 1  # disentanglement has a number of its own
        assert added == {
            ("infogan", "fid"): 2, ("infogan", "disentanglement"): mine, ("infogan", "alignment"): 1,
            ("gan", "fid"): 1, ("gan", "disentanglement"): 0, ("gan", "alignment"): 0,
        }  # fmt: skip
        assert all(new[key][: len(old[key])] == old[key] for key in new), "nothing is rewritten"
        old = new
    assert "evaluation seed 0" in (tmp_path / "page" / "compare.md").read_text()


def test_a_run_that_was_trained_further_is_measured_again(
    systems: dict[str, Path], sprites: Path, tmp_path: Path
) -> None:
    """Takes more than ten seconds: a run is trained, and measured with another one twice."""
    runs = copies(systems, tmp_path / "runs", "gan", "infogan")
    compare(runs, tmp_path / "page")
    finish(train_system("gan", sprites, runs["gan"], 6))
    old = records(runs)
    compare(runs, tmp_path / "page")
    new = records(runs)
    assert {key: len(new[key]) - len(old[key]) for key in new if new[key] != old[key]} == {("gan", "fid"): 1}
    assert rows_of(tmp_path / "page")[1]["iterations"] == "6"
    assert "NOT EQUAL in iterations: 5, 6." in (tmp_path / "page" / "compare.md").read_text()


def test_single_commands_and_compare_share_their_records(systems: dict[str, Path], tmp_path: Path) -> None:
    runs = copies(systems, tmp_path / "runs", "infogan")
    for argv in (
        ("fid", runs["infogan"], "--samples", COUNT, "--of", "reals,gan,untrained"),
        ("disentanglement", runs["infogan"], "--protocol", "short"),
        ("alignment", runs["infogan"], "--samples", COUNT),
    ):
        finish(quickly(tmp_path, *argv))
    argv = ["compare", str(runs["infogan"]), "--out", str(tmp_path / "page"), "--samples", str(COUNT)]
    finish(processes.start(measuring_nothing, (argv,), tmp_path))


def test_unequal_iterations_batch_sizes_and_seeds_are_said(systems: dict[str, Path], tmp_path: Path) -> None:
    """Takes more than ten seconds: two runs are measured, and their pictures drawn."""
    compare(copies(systems, tmp_path / "runs", "infogan", "infogan_again"), tmp_path / "page")
    for name in ("compare.md", "index.html"):
        text = (tmp_path / "page" / name).read_text()
        for note in ("NOT EQUAL in iterations: 5, 8.", "NOT EQUAL in batch size: 8, 16.", "Training seeds 0, 1;"):
            assert note in text
    assert [row["batch"] for row in rows_of(tmp_path / "page")] == ["", "16", "8"]


def test_everything_that_cannot_be_compared_is_refused_at_once(systems: dict[str, Path], tmp_path: Path) -> None:
    runs = copies(systems, tmp_path / "runs", "gan", "color")
    empty, out = tmp_path / "empty", tmp_path / "page"
    empty.mkdir()
    argv = ("compare", runs["gan"], runs["color"], empty, tmp_path / "nowhere", runs["gan"], "--out", out)
    refused(
        processes.command("evaluation", argv, tmp_path / "logs"),
        "these runs cannot be compared: 4 problems",
        f"{runs['color']}: is of another data set or data.variant than {runs['gan']}; leave one out",
        f"{empty}: no run here (no config.yaml); name a folder that `python -m trainer` made",
        f"{tmp_path / 'nowhere'}: no such folder",
        "a run is named twice; name each once",
    )
    assert not out.exists()
    assert not list(tmp_path.rglob("evaluation"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of an InfoGAN and a GAN, on pictures whose factors nothing knows; beside them a network of features."""
    place = tmp_path_factory.mktemp("photographs")
    (place / "photos").mkdir()
    for i in range(24):
        replicas.picture(80, 80, i).save(place / "photos" / f"{i:02d}.png")
    argv = ("make", "folder", place / "photos", "--out", place / "set", "--resolutions", "64", "--workers", 1)
    finish(processes.command("data_shards", argv, place))
    starts = [partial(train_system, "infogan", place / "set", place / f"seed_{seed}", 1, seed=seed) for seed in (0, 1)]
    starts.append(partial(train_system, "gan", place / "set", place / "gan", 1))
    for running in two_at_a_time(starts):
        finish(running)
    network(place, 32)
    return place


def by_few_features(folder: Path, *argv: object) -> processes.Running:
    return processes.start(quick_by_few_features, ([str(a) for a in argv],), folder)


def test_runs_on_photographs_are_compared_by_inception_and_seeds_of_one_setting_have_a_mean(
    photographs: Path, tmp_path: Path
) -> None:
    runs = {name: photographs / name for name in ("seed_0", "seed_1", "gan")}
    argv = ("compare", *runs.values(), "--out", tmp_path / "page", "--samples", 16, "--codes", "posterior")
    asked = ("--fid-protocol", "legacy_pytorch", "--weights", photographs / WEIGHTS)
    finish(by_few_features(tmp_path, *argv, *asked))
    rows = rows_of(tmp_path / "page")
    assert [row["system"] for row in rows] == ["reals", "InfoGAN", "InfoGAN", "GAN", "InfoGAN, mean of 2 seeds"]
    records = [
        next(r for line in lines(run, "fid") if "gan" in (r := json.loads(line))["kinds"]) for run in runs.values()
    ]
    assert [record["codes"] for record in records] == ["posterior", "posterior", "none"]
    assert {record["protocol"] for record in records} == {"legacy_pytorch"}
    found = [record["kinds"]["gan"]["fid"] for record in records[:2]]
    assert found[0] != found[1]
    mean, deviation = (float(text) for text in rows[-1]["FID"].split(" ± "))
    assert mean == pytest.approx(statistics.mean(found), rel=0.01)
    assert deviation == pytest.approx(statistics.stdev(found), rel=0.01)
    assert (rows[-1]["iterations"], rows[-1]["batch"], rows[-1]["run"]) == ("1", "16", "")
    of_factors = ("fidelity", "MIG", "FVM", "R2 x", "R2 y", "R2 scale", "parts")
    assert {row[column] for row in rows for column in of_factors} == {""}
    text = (tmp_path / "page" / "compare.md").read_text()
    assert "Codes of the posterior." in text
    assert "FVM " not in text.splitlines()[0]


def measured(system: str, encoder: str | None, **settings: Any) -> Measured:
    """What a comparison knows of a run that was not made."""
    settings |= {"vae": "runs/vae"} if system == "idgan" else {}
    config = load_config(GanConfig, Path(f"configs/dsprites/{system}.yaml"), [f"{k}={v}" for k, v in settings.items()])
    run: Any = SimpleNamespace(
        config=config, generator=object(), encoder=encoder, encoder_sha256=encoder, manifest={"iteration": 5},
        path=Path("runs/x"),
    )  # fmt: skip
    fid = {"kinds": {"gan": {"fid": float(settings["seed"] + 1), "fidelity": None}}}
    return Measured(run, fid, None, None)


def test_only_seeds_of_one_setting_on_one_encoder_have_a_mean() -> None:
    """Not a run and its export, nor ID-GANs on two encoders; InfoGANs learn an encoder each."""
    one, two = measured("idgan", "a", seed=0), measured("idgan", "a", seed=1)
    assert [cells["FID"] for cells in means([one, two])] == ["1.5 ± 0.707"]
    assert means([one, measured("idgan", "a", seed=0)]) == []
    assert means([one, measured("idgan", "b", seed=1)]) == []
    assert means([one, measured("idgan", "a", seed=1, r1=5)]) == []
    infogans = [measured("infogan", "a", seed=0), measured("infogan", "b", seed=1)]
    assert [cells["system"] for cells in means(infogans)] == ["InfoGAN, mean of 2 seeds"]


def test_what_does_not_fit_the_data_is_refused(photographs: Path, systems: dict[str, Path], tmp_path: Path) -> None:
    out = ("--out", tmp_path / "page")
    photos, sprites = photographs / "gan", systems["gan"]
    refused(quickly(tmp_path, "compare", photos, *out), "the weights of Inception clean are not there", "--weights")
    refused(quickly(tmp_path, "compare", sprites, *out, "--fid-protocol", "face-net"), "use --fid-protocol factor-net")
    weights = ("--fid-protocol", "legacy_pytorch", "--weights", photographs / WEIGHTS)
    argv = ("compare", photos, *out, *weights, "--protocol", "short")
    refused(by_few_features(tmp_path, *argv), "has no known factors")
    refused(quickly(tmp_path, "beside", photos), "trained on folder; the shipped networks know")
