"""Data, records and exports that earlier versions wrote are read, measured and exported as before."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file

import trainer
from data_shards.read.loader import open_dataset
from tests.support.evaluating import answer, quickly
from tests.support.training import differences, finish

from .fixture_files import FIXTURES, FLOAT32, MIDWAY, Resume, apart, command, content, unpack, unpack_run


def test_shards_are_sound_and_hold_the_same_pixels(tmp_path: Path) -> None:
    place = unpack(tmp_path, "data")
    command(place, "data_shards", "check", "data", "--workers", 1)
    told = command(place, "data_shards", "info", "data", "--json").out
    assert json.loads(told) == json.loads(content(FIXTURES / "after/info.json"))
    for level, hashes in json.loads(content(FIXTURES / "after/pixels.json")).items():
        images = open_dataset(place / "data", int(level)).read_samples(torch.arange(64).numpy())
        assert images.shape == (64, 1, int(level), int(level))
        assert [sha256(image.numpy().tobytes()).hexdigest() for image in images] == hashes


def test_a_set_indexed_anew_has_the_same_hash(tmp_path: Path) -> None:
    """Runs remember it. The fixture was made under Python 3.11.2, which wrote other headers than later ones do."""
    place = unpack(tmp_path, "data")
    paths = [place / "data/manifest.json", *(place / f"data/{level}/index.npz" for level in (64, 128))]
    before = [path.read_bytes() for path in paths]
    for path in paths[1:]:
        path.unlink()
    command(place, "data_shards", "index", "data")
    assert [path.read_bytes() for path in paths] == before


def record(name: str, kind: str) -> dict[str, Any]:
    """What v0.1 measured."""
    found: dict[str, Any] = json.loads(content(FIXTURES / "runs" / name / "evaluation" / f"{kind}.jsonl"))
    return found


def test_fid_is_what_it_was_and_its_record_stands_beside_the_old_one(tmp_path: Path) -> None:
    place, old = unpack_run(tmp_path, "idgan"), record("idgan", "fid")
    new = answer(command(place, "evaluation", "fid", "runs/idgan", "--samples", 32, "--of", "gan,vae"))
    for kind in ("gan", "vae"):
        assert new["kinds"][kind]["fid"] == pytest.approx(old["kinds"][kind]["fid"], rel=1e-3)
    same = ("weights_sha256", "images_seen", "step", "alpha", "ema", "system", "data", "codes")
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    lines = (place / "runs/idgan/evaluation/fid.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [old, new]
    (reference,) = (place / "data/references").iterdir()
    before, now = (
        load(data) for data in (content(FIXTURES / "data/references" / reference.name), reference.read_bytes())
    )
    assert not differences(before, {name: now[name] for name in before}), "the statistics of reals were there already"
    assert now.keys() - before.keys() == {"sharpness_64"}
    assert all(new["kinds"][kind]["detail"] is not None for kind in ("gan", "vae"))
    rows = (place / "runs/idgan/evaluation/trajectory.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 + 2


def test_the_page_of_a_run_shows_what_v0_1_measured(tmp_path: Path) -> None:
    place = unpack_run(tmp_path, "idgan")
    page = Path(str(answer(command(place, "evaluation", "report", "runs/idgan"))["page"]))
    text = (place / page).read_text()
    for kind in ("reals", "gan", "vae"):
        assert f"{record('idgan', 'fid')['kinds'][kind]['fid']:.3g}" in text
    for row in record("idgan", "latents")["share_of_range"]:
        for share in row:
            assert f"{share:.0%}" in text
    for word in ("step-000000000096", "AMD EPYC", "trainer gan settings/idgan.yaml", "evaluation fid runs/idgan"):
        assert word in text


def test_metrics_of_an_encoder(tmp_path: Path) -> None:
    place = unpack(tmp_path, "data", "runs/vae")
    found = answer(finish(quickly(place / "logs", "disentanglement", "runs/vae", "--protocol", "short", place=place)))
    assert found["encoder"] == "the beta-VAE of this run"
    assert found["step"] == f"step-{MIDWAY['vae']:012d}"


def ema(place: Path, *argv: object) -> dict[str, Any]:
    return answer(command(place, "evaluation", "ema", "runs/gan", "--sigma-rel", 0.07, *argv))


def test_snapshots_of_averages_make_the_average_that_they_made(tmp_path: Path) -> None:
    place, old = unpack_run(tmp_path, "gan"), record("gan", "ema")
    file = "runs/gan/ema/reconstructed/000000000032-sigma_rel_0.07.safetensors"
    kept = load_file(place / file)
    new = ema(place)
    assert (new["file"], new["at"], new["snapshots"]) == (file, 32, 4)
    assert new["residual"] == pytest.approx(old["residual"], rel=1e-9)
    assert not apart(load_file(place / file), kept)


def test_snapshots_of_before_and_after_a_resume_go_together(resume: Resume) -> None:
    """The settings that snapshots are compared by have other names in the two."""
    place = resume("gan")
    names = [f"{n:012d}-sigma_rel_{s}.safetensors" for n in (16, 32, 48, 64) for s in (0.05, 0.1)]
    assert sorted(path.name for path in (place / "runs/gan/ema").glob("*.safetensors")) == names
    assert ema(place)["snapshots"] == 8
    assert ema(place, "--at", 32, "--out", "again.safetensors")["snapshots"] == 4
    kept = place / "runs/gan/ema/reconstructed/000000000032-sigma_rel_0.07.safetensors"
    assert not apart(load_file(place / "again.safetensors"), load_file(kept))


def test_a_run_is_exported_as_it_was(tmp_path: Path) -> None:
    place = unpack_run(tmp_path, "idgan")
    command(place, "trainer", "export", "runs/idgan", "out")
    old, new = unpack(tmp_path / "old", "exports") / "exports/idgan", place / "out"
    assert {path.name for path in new.iterdir()} == {path.name for path in old.iterdir()} | {"config.yaml", "README.md"}
    for name in ("generator", "encoder"):
        assert not differences(load_file(new / f"{name}.safetensors"), load_file(old / f"{name}.safetensors"))
    assert not apart(load_file(new / "bank.safetensors"), load_file(old / "bank.safetensors"), FLOAT32)
    before, now = (json.loads((folder / "export.json").read_text()) for folder in (old, new))
    for group in ("origin", "generator"):  # each has more to say today
        now[group] = {name: now[group][name] for name in before[group]}
    for facts in (before, now):
        del facts["origin"]["versions"]
    assert {name: now[name] for name in before} == before


def test_an_average_in_a_file_of_v0_1_is_exported(tmp_path: Path) -> None:
    place = unpack_run(tmp_path, "gan")
    file = "runs/gan/ema/reconstructed/000000000032-sigma_rel_0.07.safetensors"
    command(place, "trainer", "export", "runs/gan", "out", "--ema", file)
    kept = {name: t.float() for name, t in load_file(place / file).items()}
    assert not differences(load_file(place / "out/generator.safetensors"), kept)


def test_an_export_of_v0_1_loads_and_gives_the_same_images(tmp_path: Path) -> None:
    model = trainer.load(unpack(tmp_path, "exports") / "exports/idgan")
    wanted = load(content(FIXTURES / "after/export.safetensors"))
    images = model.sample(2, seed=1)
    mean, logvar = model.encode(images)
    found = {"images": images, "codes": model.codes(8, seed=1), "mean": mean, "logvar": logvar}
    assert not apart(found, wanted, FLOAT32)
    assert float(images.std()) > 0.01
    assert model.decode(model.codes(1)).shape == (1, 3, 64, 64)


def test_an_export_of_v0_1_is_measured_against_its_statistics_of_reals(tmp_path: Path) -> None:
    """Without the run and the data."""
    place = unpack(tmp_path, "exports", "data/references")
    (reference,) = (place / "data/references").iterdir()
    argv = ("fid", "exports/idgan", "--samples", 32, "--reference", reference.relative_to(place))
    running = command(place, "evaluation", *argv)
    found = answer(running)["kinds"]["gan"]
    assert found["fid"] == pytest.approx(record("idgan", "fid")["kinds"]["gan"]["fid"], rel=1e-2)
    assert found["spectrum"] is found["detail"] is None
    assert "holds no sharpness of reals at 64 px" in running.err
