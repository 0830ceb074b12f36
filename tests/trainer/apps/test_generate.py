"""Seed k is one image, whatever else is asked for: files against the model's own images, and against each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trainer
from common.errors import UserError
from models import VAE, CodeEncoder, ConvGenerator, freeze
from tests.support import processes
from tests.support.training import finish, train, train_system
from trainer.apps.latents import latents_of
from trainer.export.exported_model import ExportMetadata, Model

FACES, SPRITES, STAGE_1 = "pretrained/faces-64-idgan", "pretrained/dsprites-idgan", "pretrained/dsprites-beta_vae"


def generate(model: object, out: Path, *more: object, seeds: str = "0-2") -> processes.Running:
    return processes.command("trainer", ["generate", model, "--seeds", seeds, "--out", out, *more], out.parent / "logs")


def image(out: Path, seed: int) -> bytes:
    return (out / f"seed{seed:06d}.png").read_bytes()


def pixels(out: Path, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(Image.open(out / f"seed{seed:06d}.png"))


def model_pixels(model: Model, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    """The image of the model itself, [R, R, 3] or [R, R]."""
    at = torch.tensor([seed])
    made = (model.generate(model.nuisance(at), model.codes(at))[0] * 255).round().byte()
    return made.permute(1, 2, 0).squeeze(2).numpy()


def names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


def test_a_seed_is_the_same_bytes_alone_and_among_others_and_on_two_processes(tmp_path: Path) -> None:
    """Batches of this model round otherwise: 18 bytes of its first 64 images differ on the machine of this test."""
    finish(generate(FACES, tmp_path / "alone", seeds="5"))
    finish(generate(FACES, tmp_path / "among", "--grid", "4x4", seeds="7,4,5,1000000"))
    argv = ["generate", FACES, "--seeds", "4-7", "--out", tmp_path / "two", "--grid", "2x2"]
    for rank in processes.ranks(2, "trainer", argv, tmp_path / "logs"):
        finish(rank)
    assert image(tmp_path / "alone", 5) == image(tmp_path / "among", 5) == image(tmp_path / "two", 5)
    assert image(tmp_path / "two", 4) == image(tmp_path / "among", 4) != image(tmp_path / "two", 5)
    assert names(tmp_path / "two") == {"images.json", "grid.png", *(f"seed00000{k}.png" for k in range(4, 8))}
    assert "seed1000000.png" in names(tmp_path / "among")
    assert np.array_equal(pixels(tmp_path / "alone", 5), model_pixels(trainer.load(FACES), 5))
    torch.set_num_threads(2)
    try:
        assert np.array_equal(pixels(tmp_path / "alone", 5), model_pixels(trainer.load(FACES), 5))
    finally:
        torch.set_num_threads(1)
    record = json.loads((tmp_path / "among" / "images.json").read_text())
    assert (record["seeds"], record["codes"], record["psi"]) == ("7,4-5,1000000", "posterior", 1.0)


def test_the_grid_has_the_images_in_their_order_and_white_places(tmp_path: Path) -> None:
    finish(generate(SPRITES, tmp_path / "out", "--grid", "2x2", seeds="3,1,2"))
    sheet = np.array(Image.open(tmp_path / "out" / "grid.png"))
    assert sheet.shape == (134, 134, 3)
    for place, seed in enumerate((3, 1, 2)):
        y, x = 2 + place // 2 * 66, 2 + place % 2 * 66
        assert np.array_equal(sheet[y : y + 64, x : x + 64, 0], pixels(tmp_path / "out", seed))
    assert (sheet[68:132, 68:132] == 255).all()


def test_a_small_psi_gives_all_seeds_the_image_of_the_mean(tmp_path: Path) -> None:
    finish(generate(FACES, tmp_path / "out", "--psi", "1e-7"))
    model = trainer.load(FACES)
    assert model.bank is not None
    mean = model.bank[0].mean(0, keepdim=True)
    made = (model.generate(torch.zeros(1, 32), mean)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    for seed in range(3):
        assert np.abs(pixels(tmp_path / "out", seed).astype(int) - made).max() <= 1


def test_psi_shortens_the_way_to_the_mean() -> None:
    model, path = trainer.load(FACES), Path(FACES)
    whole, half = (latents_of(model, path, None, psi, (4,)).of(4) for psi in (1.0, 0.5))
    assert model.bank is not None
    assert torch.equal(half[0], whole[0] / 2)
    torch.testing.assert_close(half[1], (whole[1] + model.bank[0].mean(0)) / 2)
    prior = [latents_of(model, path, "prior", psi, (4,)).of(4)[1] for psi in (1.0, 0.5)]
    assert torch.equal(prior[1], prior[0] / 2)
    assert not torch.equal(prior[0], whole[1])


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_codes_of_a_file_give_the_images_of_the_model_that_drew_them(suffix: str, tmp_path: Path) -> None:
    model = trainer.load(FACES)
    codes = torch.cat([model.codes(torch.tensor([seed])) for seed in range(3)]).numpy()
    file = tmp_path / f"codes{suffix}"
    if suffix == ".npy":
        np.save(file, codes.astype(np.float64))
    else:
        np.savetxt(file, codes, delimiter=",", fmt="%.9g")
    finish(generate(FACES, tmp_path / "out", "--codes", file))
    for seed in range(3):
        assert np.array_equal(pixels(tmp_path / "out", seed), model_pixels(model, seed))


def test_the_mean_of_a_file_is_that_of_its_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", np.arange(40).reshape(2, 20))
    s, c = latents_of(trainer.load(FACES), Path(FACES), str(tmp_path / "codes.npy"), 0.5, (0, 1)).of(1)
    assert torch.equal(c[0], torch.arange(20) + 15.0)
    assert s.shape == (1, 32)


def test_a_model_of_stage_1_decodes_its_codes(tmp_path: Path) -> None:
    finish(generate(STAGE_1, tmp_path / "out", seeds="6"))
    model = trainer.load(STAGE_1)
    made = (model.decode(model.codes(torch.tensor([6])))[0, 0] * 255).round().byte().numpy()
    assert np.array_equal(pixels(tmp_path / "out", 6), made)


def test_a_run_makes_the_images_of_its_export(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Of both stages, with the data; with --codes prior also where the data are gone.

    Takes more than ten seconds on a busy machine: a training, two exports and seven other commands.
    """
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(sprites, data)
    finish(train("gan", data, run, 2, vae=vae, s_dim=3))
    for source, name in ((run, "gan"), (vae, "vae")):
        finish(processes.command("trainer", ["export", source, tmp_path / f"{name}-export"], tmp_path / "logs"))
        finish(generate(source, tmp_path / f"{name}-run", "--psi", "0.8"))
        finish(generate(tmp_path / f"{name}-export", tmp_path / f"{name}-again", "--psi", "0.8"))
        for seed in range(3):
            assert image(tmp_path / f"{name}-run", seed) == image(tmp_path / f"{name}-again", seed)
    shutil.rmtree(data)
    assert "no such folder (data.path in" in finish(generate(run, tmp_path / "out"), 2).err
    finish(generate(run, tmp_path / "out", "--codes", "prior"))
    finish(generate(tmp_path / "gan-export", tmp_path / "prior", "--codes", "prior"))
    assert image(tmp_path / "out", 1) == image(tmp_path / "prior", 1) != image(tmp_path / "gan-run", 1)


def test_a_gan_without_a_code(sprites: Path, tmp_path: Path) -> None:
    """Its latents are those of s. A code, or an average that it has not, is refused."""
    run, out = tmp_path / "run", tmp_path / "out"
    finish(train_system("gan", sprites, run, 2))
    finish(generate(run, out, "--psi", "0.5", "--traverse", "s2,s1"))
    record = json.loads((out / "images.json").read_text())
    assert (record["codes"], record["traverse"], record["model"]["ema"]) == ("none", "s2,s1", "decay_0.999")
    assert Image.open(out / "traversals.png").size == (120 + 7 * 66 + 2, 2 * 68)
    running = finish(generate(run, tmp_path / "other", "--codes", "prior", "--traverse", "c1"), 2)
    assert "--codes: prior:" in running.err
    assert "is a GAN without a code; leave --codes out" in running.err
    assert "--traverse: 'c1' is no latent of this model; it has s1 to s" in running.err
    assert "--ema: nothing:" in finish(generate(run, tmp_path / "other", "--ema", "nothing"), 2).err
    assert not (tmp_path / "other").exists()


def test_psi_needs_latents() -> None:
    metadata = ExportMetadata("conv", {}, 64, None, 1, 0, 0, "none", "none", {})
    with pytest.raises(UserError, match="neither s nor c to truncate"):
        latents_of(Model(metadata, None, None, None), Path("runs/x"), None, 0.5, (0,))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros((3, 19)), "has the shape 3 x 19; the model takes codes [N, 20]"),
        (np.zeros(20), "has the shape 20;"),
        (np.zeros((2, 20)), "has 2 rows, and none for seed 2; ask for seeds up to 1"),
        (np.full((3, 20), 1e300), "holds inf in row 0, column 0, counted from 0 (60 such"),
        (np.array([[0.0] * 20, [0.0] * 19 + [np.nan]]), "holds nan in row 1, column 19, counted from 0 (1 such values"),
        (np.zeros((3, 20), complex), "holds no array of real numbers"),
        (np.array([[None] * 20]), "cannot be read (Object arrays cannot be loaded"),
    ],
)
def test_codes_that_do_not_fit_are_refused(content: np.ndarray, words: str, tmp_path: Path) -> None:  # type: ignore[type-arg]
    np.save(tmp_path / "codes.npy", content, allow_pickle=True)
    with pytest.raises(UserError) as caught:
        latents_of(trainer.load(FACES), Path(FACES), str(tmp_path / "codes.npy"), 1.0, (0, 1, 2))
    assert f"--codes: {tmp_path / 'codes.npy'}:" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("codes.csv", "c1,c2\n1,2\n", "cannot be read (could not convert string 'c1'"),
        ("codes.csv", "", "has the shape"),
        ("codes.npy", "no numbers", "cannot be read"),
        ("codes.npy", "PK\x03\x04 no zip", "cannot be read"),
        ("codes.txt", "1", "is none of posterior, prior, a .npy file and a .csv file"),
        ("other/codes.npy", None, "No such file or directory; name a file of codes"),
    ],
)
def test_files_that_hold_no_codes_are_refused(name: str, content: str | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        latents_of(trainer.load(FACES), Path(FACES), str(tmp_path / name), 1.0, (0,))
    assert words in str(caught.value)


def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = finish(generate(FACES, out, "--psi", "1.5", "--grid", "2x2", "--video", "webp", seeds="0-200"), 2)
    for words in ("3 problems", "--psi: 1.5:", "--grid: 2x2: has places for 4 of 201", "--video: webp: 201 seeds"):
        assert words in running.err
    running = finish(generate(FACES, out, "--step", "5"), 2)
    assert f"--step: 5: {FACES} is an export, which holds one generator; leave --step out" in running.err
    running = finish(generate(tmp_path / "none", out), 2)
    assert "no run here" in running.err
    assert "Traceback" not in running.err
    assert not out.exists()


def test_the_same_command_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = ("--grid", "1x3", "--traverse", "c1")
    finish(generate(SPRITES, out, *more))
    before = {name: (out / name).read_bytes() for name in names(out)}
    kept = {name: (out / name).stat().st_mtime_ns for name in ("seed000000.png", "grid.png", "images.json")}
    for name in ("seed000001.png", "traversals.png"):
        (out / name).unlink()
    finish(generate(SPRITES, out, *more))
    assert {name: (out / name).read_bytes() for name in names(out)} == before
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    first = image(out, 1)
    running = finish(generate(SPRITES, out, *more, "--psi", "0.5"), 2)
    assert f"--out: {out}: holds images of another command (psi: was 1.0, now 0.5); name another" in running.err
    assert image(out, 1) == first
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "seed000001.png").write_bytes(b"mine")
    assert "is there already, without images.json" in finish(generate(SPRITES, tmp_path / "mine"), 2).err
    assert image(tmp_path / "mine", 1) == b"mine"
    (out / "images.json").write_text("{")
    assert "images.json: is damaged" in finish(generate(SPRITES, out), 2).err


def test_a_generator_with_a_code_and_no_s_is_truncated_in_c() -> None:
    torch.manual_seed(0)
    vae, arguments = VAE(1, 3, "default"), {"z_dim": 3, "channels": 1}
    metadata = ExportMetadata("conv", arguments, 64, None, 1, 0, 3, "posterior", "vae", {})
    model = Model(metadata, freeze(ConvGenerator(**arguments)), CodeEncoder(vae.encoder), freeze(vae))
    model.bank = torch.ones(4, 3), torch.zeros(4, 3)
    s, c = latents_of(model, Path("x"), None, 0.25, (2,)).of(2)
    assert s.shape == (1, 0)
    torch.testing.assert_close(c, 1 + 0.25 * (model.codes(torch.tensor([2])) - 1))
