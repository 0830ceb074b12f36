"""The configs of drawn faces train with few channels on the shards that their headers make, and name the artist.

This is the path of CelebA-HQ from shards to an export: VAE, growth, fades, bottleneck, checkpoints, a resume in a fade,
and everything that evaluation says of a run.
"""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tests.support import processes
from tests.support.evaluating import answer, quickly
from tests.support.shipped_configs import FACES, making, training
from tests.support.training import STAGE_1, STAGE_2, TERMS, TIMING, differences, finish, newest, tensors, two_at_a_time
from trainer.checkpoints import published

ROOT = Path(__file__).parents[3]
STEPS_OF_2 = ["batch_size=2", "schedule.total_kimg=0.004", "schedule.tick_kimg=0.002"]
STEPS_OF_FACTOR_VAE = ["batch_size=2", "schedule.total_kimg=0.008", "schedule.tick_kimg=0.004"]
GROWN = [  # two images at 64 px, then two in each fade and one in each hold
    "batch_size=1", "growth.batch_size={64: 2}", "growth.phase_kimg=0.001", "growth.fade_kimg=0.002", "r1_interval=4",
    "schedule.tick_kimg=0.001",
]  # fmt: skip
LENGTHS = {
    "faces/factor_vae": STEPS_OF_FACTOR_VAE,
    "faces/256": [*GROWN, "schedule.total_kimg=0.008"],
    "faces/1024": [*GROWN, "schedule.total_kimg=0.005"],  # beyond 128 px it is celeba_hq/1024, whose tests go on
}
VAES = [name for name in FACES if name.endswith("vae")]
GANS = [name for name in FACES if not name.endswith("vae")]
REPORTED = {
    "faces/64": TERMS["idgan"],
    "faces/gan": TERMS["gan"],
    "faces/infogan": TERMS["infogan"],
    "faces/256": STAGE_2 | {"code_nll", "kl", "beta"},
    "faces/1024": STAGE_2 | {"code_nll", "kl", "beta"},
    "faces/vae": STAGE_1,
    "faces/beta_vae": STAGE_1,
    "faces/factor_vae": TERMS["factor_vae"],
}
ATTRIBUTION = ("ToonHead", "Johan Melin", "CC BY 4.0")


def make(place: Path, argv: list[str]) -> processes.Running:
    """The header's command with a few faces."""
    count = "2" if "1024,512,256,128,64" in argv else "8"
    few = ["--count", count, "--workers", "1"]
    return processes.start(processes.module_in, (str(place), "data_shards", [*argv, *few]), place / "logs")


def train(place: Path, name: str, *more: str) -> processes.Running:
    """The header's command at a small size."""
    small = [] if name in VAES else ["network.nf=1", "network.nf_max=8", "data.workers=0", "processes=null"]
    quiet = ["schedule.save_kimg=0.006", "schedule.sample_kimg=1000", "schedule.keep_last=9"]
    argv = [*training(name), *small, *quiet, *LENGTHS.get(name, STEPS_OF_2), *more]
    return processes.start(processes.module_in, (str(place), "trainer", argv), place / "logs")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configs, like a fresh clone, where all header commands have been run in their order."""
    place = tmp_path_factory.mktemp("place")
    (place / "configs").symlink_to(ROOT / "configs")
    sets = {" ".join(making(name)): making(name) for name in FACES}
    for group in (
        [partial(make, place, argv) for argv in sets.values()],
        [partial(train, place, name) for name in VAES],
        [partial(train, place, name) for name in GANS],
    ):
        for running in two_at_a_time(group):
            finish(running)
    return place


def run_of(place: Path, name: str) -> Path:
    return place / "runs" / name.replace("/", "-")


def ticks(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", FACES)
def test_it_trains(name: str, place: Path) -> None:
    told = ticks(run_of(place, name))
    assert all(tick.keys() - TIMING - {"images_seen", "resolution", "alpha"} == REPORTED[name] for tick in told)
    assert published.newest(run_of(place, name)) is not None


@pytest.mark.parametrize(("name", "grown_to"), [("faces/256", (128, 256)), ("faces/1024", (128,))])
def test_a_growing_one_passes_every_phase_and_fade(name: str, grown_to: tuple[int, ...], place: Path) -> None:
    told = ticks(run_of(place, name))
    assert [(tick["resolution"], tick.get("alpha")) for tick in told] == [
        (64, None),
        *[(px, alpha) for px in grown_to for alpha in (0.0, 0.5, None)],
    ]
    assert [i for i, tick in enumerate(told) if tick["r1"]] == list(range(0, len(told), 4)), "lazily"
    assert told[-1]["beta"] != 0.01


def test_resumed_in_the_middle_of_a_fade_it_ends_as_the_unbroken_run(place: Path) -> None:
    whole, run = run_of(place, "faces/256") / "checkpoints", place / "runs/resumed"
    shutil.copytree(whole.parent, run, ignore=shutil.ignore_patterns("checkpoints"))
    shutil.copytree(whole / published.name_of(6), run / "checkpoints" / published.name_of(6))
    running = finish(train(place, "faces/256", f"run={run}"))
    assert f"resuming {run} at 6 images" in running.err
    assert not differences(tensors(whole / published.name_of(8)), newest(run))


def test_every_command_of_evaluation_takes_it(place: Path, tmp_path: Path) -> None:
    """On the run that has grown to 256 px. Takes more than ten seconds: seven commands."""
    gan = "runs/faces-256"

    def measured(*argv: str) -> dict[str, Any]:
        return answer(finish(quickly(tmp_path, *argv, place=place)))

    record = measured("fid", gan, "--samples", "4", "--of", "reals,gan,vae,untrained")
    assert (record["protocol"], record["resolution"]) == ("face-net", 256)
    assert measured("alignment", gan, "--samples", "4")["extractor"] == record["extractor"]
    assert {"rear_hair", "background_hue"} <= set(measured("latents", gan)["factors"])
    assert measured("control", gan)["units"]["mouth"] == "4 probabilities"
    finish(quickly(tmp_path, "figures", gan, place=place))
    page = (place / measured("report", gan)["page"]).read_text()
    for word in ("face-net", "rear_hair", "background_hue", "make faces", "256 px"):
        assert word in page, word
    compared = ("runs/faces-64", "runs/faces-beta_vae")  # of one data set
    finish(quickly(tmp_path, "compare", *compared, "--samples", "4", "--out", "page", place=place))


def test_artist_and_licence_go_along_with_a_run_and_its_export(place: Path) -> None:
    """For a VAE in its file's metadata, also in a copy of a copy; for a GAN without a code, whose data are gone."""
    step = published.newest(run_of(place, "faces/beta_vae"))
    assert step is not None
    noted = published.read_manifest(step)["data_notes"]
    assert all(word in noted[0] for word in ATTRIBUTION)
    copied = run_of(place, "faces/64") / "vae.safetensors"
    finish(train(place, "faces/64", f"vae={copied}", "run=runs/again"))
    for file in (copied, place / "runs/again/vae.safetensors"):
        with safe_open(file, "pt") as opened:
            assert json.loads(opened.metadata()["data_notes"]) == noted
    for name in ("faces/256", "faces/gan"):
        run, out = run_of(place, name), place / "exports" / name
        if name == "faces/gan":
            config = run / "config.yaml"
            config.write_text(re.sub("path: data/faces-64", "path: data/gone", config.read_text()))
        finish(
            processes.start(
                processes.module_in, (str(place), "trainer", ["export", str(run), str(out)]), place / "logs"
            )
        )
        assert json.loads((out / "export.json").read_text())["origin"]["data_notes"] == noted
