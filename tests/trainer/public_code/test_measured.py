"""Imported weights are measured like any export, on whatever set there is, also without their encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support import public_code as files
from tests.support.training import finish


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exports of one model.pt of dSprites: with its VAE, without it, and of the VAE alone."""
    place = tmp_path_factory.mktemp("imported")
    networks = {
        "generator": files.conv_generator(10, 1, 1),
        "discriminator": files.conv_discriminator(1, 2),
        "generator_test": files.conv_generator(10, 1, 3),
    }
    model = files.stage_2(place / "model.pt", networks, 99)
    last = files.stage_1(place / "last", files.vae(10, 1, 4), 100)
    cases = {
        "whole": [model, "--as", "dsprites/idgan", "--vae", last],
        "bare": [model, "--as", "dsprites/idgan"],
        "vae": [last, "--as", "dsprites/beta_vae"],
    }
    for name, argv in cases.items():
        finish(processes.command("trainer", ["import", *argv, "--out", place / name], place / "logs"))
    return {name: place / name for name in cases}


def record(folder: Path, *argv: object) -> dict[str, Any]:
    running = finish(processes.command("evaluation", argv, folder / "logs"))
    found: dict[str, Any] = json.loads(running.out.splitlines()[-1])
    return found


def test_fid_of_prior_codes_against_statistics_of_any_set(
    sprites: Path, imported: dict[str, Path], tmp_path: Path
) -> None:
    finish(
        processes.command("evaluation", ["reference", sprites, "--samples", 48, "--out", tmp_path], tmp_path / "logs")
    )
    (reals,) = tmp_path.glob("*.safetensors")
    for name, kind in (("whole", "gan"), ("bare", "gan"), ("vae", "vae")):
        found = record(tmp_path, "fid", imported[name], "--samples", 48, "--reference", reals)
        assert found["codes"] == "prior"
        assert kind in found["kinds"]
        assert "reference_data" not in found["kinds"], "whose set it was trained on nobody knows"


def test_figures_without_an_encoder_are_of_prior_codes(
    sprites: Path, imported: dict[str, Path], tmp_path: Path
) -> None:
    found = record(tmp_path, "figures", imported["bare"], "--data", sprites)
    assert found["codes"] == "prior"
    assert record(tmp_path, "figures", imported["whole"], "--data", sprites)["codes"] == "posterior"


def test_what_needs_an_encoder_says_how_to_import_it(sprites: Path, imported: dict[str, Path], tmp_path: Path) -> None:
    argv = ["alignment", imported["bare"], "--data", sprites]
    running = finish(processes.command("evaluation", argv, tmp_path / "logs"), 2)
    assert "it was imported without its encoder; import it with --vae FILE" in running.err
    assert "Traceback" not in running.err
