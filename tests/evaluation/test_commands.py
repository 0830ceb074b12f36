"""Every evaluation command on tiny runs: table, last line JSON, records, pictures, page; and what is refused."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import measure
from tests.support.evaluating import answer, evaluate, quickly, self_contained, unmeasured
from tests.support.training import finish, train


@pytest.fixture(scope="module")
def runs(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A VAE, a GAN on it with s, and a Color pair."""
    root = tmp_path_factory.mktemp("runs")
    finish(train("vae", sprites, root / "vae", 5))
    finish(train("gan", sprites, root / "gan", 5, vae=root / "vae", s_dim=4))
    finish(train("vae", sprites, root / "color_vae", 3, data__variant="color"))
    finish(train("gan", sprites, root / "color", 3, vae=root / "color_vae", data__variant="color"))
    return {path.name: path for path in root.iterdir() if path.name != "logs"}


def test_fid_prints_a_table_and_a_record(runs: dict[str, Path], tmp_path: Path) -> None:
    for name, kinds in (("gan", "reals,gan,vae,untrained"), ("color", "gan"), ("vae", "vae")):
        running = evaluate(tmp_path, "fid", runs[name], "--samples", 100, "--of", kinds)
        record = answer(running)
        assert set(kinds.split(",")) <= record["kinds"].keys()
        for kind in kinds.split(","):
            assert record["kinds"][kind]["fid"] > 0
            assert record["kinds"][kind]["count"] == 100
            assert kind in running.out
        assert record["kinds"]["reference_count"] == 100
        kept = (runs[name] / "evaluation" / "fid.jsonl").read_text().splitlines()[-1]
        assert json.loads(kept) == record


def test_the_same_seed_gives_the_same_number(runs: dict[str, Path], tmp_path: Path) -> None:
    argv = ("fid", runs["gan"], "--samples", 70, "--codes", "prior")
    first, second = (answer(evaluate(tmp_path, *argv))["kinds"]["gan"]["fid"] for _ in range(2))
    other = answer(evaluate(tmp_path, *argv, "--seed", 1))["kinds"]["gan"]["fid"]
    assert first == second != other


def test_reals_are_faithful_sprites_and_an_untrained_generator_is_not(runs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("gan", "color"):
        kinds = answer(evaluate(tmp_path, "fid", runs[name], "--samples", 128, "--of", "reals,untrained"))["kinds"]
        assert kinds["reals"]["fidelity"] >= 0.95
        assert kinds["untrained"]["fidelity"] < 0.2


def test_disentanglement_names_the_encoder_it_measured(runs: dict[str, Path], tmp_path: Path) -> None:
    found = {
        name: answer(finish(quickly(tmp_path, "disentanglement", runs[name], "--protocol", "short")))
        for name in ("gan", "vae")
    }
    assert found["gan"]["encoder"] == "the frozen VAE of this run (vae.safetensors)"
    assert found["vae"]["encoder"] == "the beta-VAE of this run"
    for key in measure.SCORES:
        assert found["gan"][key] == found["vae"][key], "the GAN's encoder is its VAE's"


def test_latents_figures_and_report(runs: dict[str, Path], tmp_path: Path) -> None:
    run = unmeasured(runs["gan"], tmp_path / "gan")
    latents = finish(quickly(tmp_path / "logs", "latents", run))
    share = np.array(answer(latents)["share_of_range"])
    assert share.shape == (10, 3)
    assert ((share >= 0) & (share <= 1)).all()
    held = answer(latents)["means_r2"]
    assert held.keys() == {"x", "y", "scale", "shape", "brightness"}
    assert all(f"{held[name]:.3f}" in latents.out.split("R2 of q's means")[1] for name in ("x", "y", "scale"))
    evaluate(tmp_path / "logs", "fid", run, "--samples", 64, "--of", "reals,gan,vae,untrained")
    finish(quickly(tmp_path / "logs", "disentanglement", run, "--protocol", "short"))
    figures = evaluate(tmp_path / "logs", "figures", run)
    assert "glyph" not in figures.err.lower(), "of the fonts that the PDF embeds"
    files = [Path(p) for p in answer(figures)["files"]]
    sizes = {path.name: Image.open(path).size for path in files if path.suffix != ".pdf"}
    assert sizes == {
        "reals.png": (8 * 66 + 2, 8 * 66 + 2),
        "samples.png": (8 * 66 + 2, 8 * 66 + 2),
        "traversals.png": (2 * (117 + 7 * 66 + 2) + 16, 5 * (2 * 66 + 2)),
        "code_and_nuisance.png": (39 + 6 * 66 + 2, 26 + 5 * (66 + 2)),
        "interpolation.webp": (4 * 66 + 2, 68),
    }
    page = Path(str(answer(evaluate(tmp_path / "logs", "report", run))["page"]))
    text = page.read_text()
    for word in (
        "Quality",
        "Spectrum and detail are log10",
        "Traversals",
        "What each latent moves",
        "Disentanglement",
        "Training",
        "decodings of its VAE",
    ):
        assert word in text
    for command in ("data_shards make dsprites", "trainer vae", "trainer gan", "evaluation fid", "evaluation latents"):
        assert command in text
    assert self_contained(text)
    pictures = re.findall(r"data:image/(?:png|webp);base64,([A-Za-z0-9+/=]+)", text)
    assert len(pictures) == 6  # with the moment of the samples over time
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture))).load()


@pytest.mark.parametrize("kind", ["vae", "color"])
def test_figures_of_every_kind_of_run(kind: str, runs: dict[str, Path], tmp_path: Path) -> None:
    files = answer(evaluate(tmp_path, "figures", runs[kind]))["files"]
    pictures = {"reals.png", "samples.png", "traversals.png"}
    assert {Path(p).name for p in files} == pictures | {"interpolation.webp", "figures.pdf"}
    evaluate(tmp_path, "report", runs[kind])


def test_what_is_refused(runs: dict[str, Path], sprites: Path, tmp_path: Path) -> None:
    empty = unmeasured(runs["vae"], tmp_path / "empty")
    shutil.rmtree(empty / "checkpoints")
    moved = unmeasured(runs["vae"], tmp_path / "moved")
    config = moved / "config.yaml"
    config.write_text(config.read_text().replace(str(sprites), str(tmp_path / "gone")))
    cases = [
        (("fid", tmp_path), ("no run here", "config.yaml")),
        (("fid", empty), ("no usable checkpoint", "empty")),
        (("fid", moved), ("gone", "no such folder")),
        (("fid", runs["vae"], "--of", "gan"), ("--of gan", "has no such images; choose from vae, reals")),
        (("fid", runs["gan"], "--of", "gna"), ("gna", "reals, gan, vae, untrained")),
        (("fid", runs["gan"], "--samples", 0), ("--samples: 0", "at least 2")),
        (("disentanglement", runs["gan"], "--protocol", "long"), ("long", "paper")),
    ]
    for argv, words in cases:
        running = evaluate(tmp_path / "logs", *argv, code=2)
        for word in words:
            assert word in running.err, running.err
        assert "Traceback" not in running.err
