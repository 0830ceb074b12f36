"""Evaluation of a run above 64 px, and of one that has not grown to its full resolution."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.fid import network
from evaluation.inputs.run import open_run
from tests.support import processes
from tests.support.data_sets import make_dsprites
from tests.support.evaluating import answer, clean_fid, evaluate, quickly, refused
from tests.support.training import finish, train

SHAPE = {
    "network": "{name: resnet, nf: 2, nf_max: 8}",
    "resolution": 128,
    "growth": "{start_resolution: 32, phase_kimg: 0.016, fade_kimg: 0.032}",
    "s_dim": 2,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By where they stand: at 32 px, in the fade to 64, at 128 px."""
    root = tmp_path_factory.mktemp("large")
    data = make_dsprites(root / "data", count=64, resolutions="128,64", per_shard=64)
    finish(train("vae", data, root / "vae", 3))
    for name, steps in (("stage", 1), ("fade", 2), ("full", 8)):
        finish(train("gan", data, root / name, steps, vae=root / "vae", **SHAPE))
    return {name: root / name for name in ("stage", "fade", "full")}


@pytest.mark.parametrize("name", ["stage", "fade", "full"])
def test_every_command_works_at_every_size(name: str, runs: dict[str, Path], tmp_path: Path) -> None:
    size = 128 if name == "full" else 64  # smaller stages are enlarged to what the networks look at
    record = answer(evaluate(tmp_path, "fid", runs[name], "--samples", 48, "--of", "reals,gan,vae,untrained"))
    assert record["resolution"] == {"stage": 32, "fade": 64, "full": 128}[name]
    assert record["reals_resolution"] == 64, "of the factor network"
    assert ("alpha" in record) == (name == "fade")
    files = {Path(p).name: Path(p) for p in answer(evaluate(tmp_path, "figures", runs[name]))["files"]}
    for whole in ("samples.png", "reals.png"):
        assert Image.open(files[whole]).size == (8 * (size + 2) + 2,) * 2
    text = 16 if name == "full" else 13  # px of its labels' letters
    pane = (3 * text + 6 * (size + 2) + 2, 2 * text + 5 * (size + 4))
    assert Image.open(files["code_and_nuisance.png"]).size == pane
    pair = 2 * (size + 2) + 2  # the VAE's 64 px decoding, enlarged, above the image
    assert Image.open(files["traversals.png"]).size == (2 * (9 * text + 7 * (size + 2) + 2) + 16, 5 * pair)
    evaluate(tmp_path, "alignment", runs[name], "--samples", 48)
    finish(quickly(tmp_path, "latents", runs[name]))
    evaluate(tmp_path, "report", runs[name])


def test_clean_looks_at_both_sides_at_the_resolution_of_the_stage(runs: dict[str, Path], tmp_path: Path) -> None:
    """At 128 px: clean-fid's number on files of generated images and reals; a reference at 64 px does not fit."""
    run, weights = runs["full"], network(tmp_path, 16)
    argv = ("fid", run, "--samples", 40, "--protocol", "clean", "--weights", weights, "--keep-images", tmp_path)
    record = answer(evaluate(tmp_path / "logs", *argv))
    assert record["reals_resolution"] == 128
    for i, real in enumerate(open_run(run).reals.at(0, torch.arange(40), 128)):
        (tmp_path / "reals").mkdir(exist_ok=True)
        Image.fromarray(real[0].numpy()).convert("RGB").save(tmp_path / "reals" / f"{i}.png")
    generated = tmp_path / "gan-posterior-0"
    assert Image.open(generated / "000000.png").size == (128, 128)
    expected = clean_fid(generated, tmp_path / "reals", weights)
    assert record["kinds"]["gan"]["fid"] == pytest.approx(expected, rel=1e-4)
    data = open_run(run).config.data.path
    argv = ("reference", data, "--samples", 40, "--protocol", "clean", "--weights", weights, "--resolution", 64)
    small = answer(evaluate(tmp_path / "logs", *argv))["file"]
    argv = ("fid", run, "--samples", 40, "--weights", weights, "--reference", small)
    refused(processes.command("evaluation", argv, tmp_path / "logs"), small, "resolution: 64 there, 128 here")
