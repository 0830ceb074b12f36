"""Images below 64 px, where the code is defined (CIFAR, MNIST): one way to train on them, which all messages state."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from data_shards.read.loader import batches, open_dataset
from tests.support import replicas
from tests.support.data_sets import Made, attempt, box_mean, photos, refused, run
from tests.support.training import finish, train
from trainer.config.sections import DataConfig
from trainer.stages.data import open_data

SMALL = {
    "data__flip": False, "network": "{name: resnet, nf: 4, nf_max: 8}", "bottleneck": "null", "batch_size": 8,
}  # fmt: skip


def cifar(folder: Path, count: int = 8, side: int = 32) -> Path:
    """Images with sharp edges, in two classes."""
    for i in range(count):
        path = folder / ("ab"[i % 2]) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        replicas.picture(side, side, i).save(path)
    return folder


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.rglob("*.png"))])


def enlarged(images: np.ndarray, side: int) -> np.ndarray:
    """As encoders see images below 64 px: torch's bilinear."""
    tensor = torch.tensor(images).permute(0, 3, 1, 2).double()
    return F.interpolate(tensor, (side, side), mode="bilinear").permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("cifar")
    return Made(folder / "set", "folder", cifar(folder / "src"), "--resolutions", "64,32,16", "--enlarge")


def test_every_message_leads_to_the_same_command_which_works(tmp_path: Path) -> None:
    source = cifar(tmp_path / "src")
    refused(attempt("folder", source), "8 problems", "a/0.png: is 32x32, too small for 64 px; add --enlarge")
    refused(attempt("folder", source, size=128), "smaller largest resolution (64 px or more), or add --enlarge")
    low = Made(tmp_path / "low", "folder", source, "--resolutions", "32")
    remedy = "make the set again with --resolutions 64,32, and --enlarge where images are below 64 px"
    assert f"training needs a level of 64 px, where the code is defined; {remedy}" in low.out
    running = finish(train("vae", low.root, tmp_path / "run", 1), 2)
    assert f"data.path: {low.root} has no 64 px, where the code is defined; {remedy}" in running.err
    assert "Traceback" not in running.err
    high = Made(tmp_path / "high", "folder", source, "--resolutions", "64,32", "--enlarge")
    assert "training needs" not in high.out
    finish(train("vae", high.root, tmp_path / "run2", 1))


def test_enlarged_sets_have_the_own_pixels_below_and_a_smooth_enlargement_above(made: Made) -> None:
    truth = pixels(made.root.parent / "src")
    np.testing.assert_array_equal(made.pixels(32), truth)
    np.testing.assert_array_equal(made.pixels(16), box_mean(truth, 16))
    np.testing.assert_allclose(made.pixels(64), enlarged(truth, 64), atol=1.01)
    assert made.manifest.recipe["enlarge"]
    note = "images below 64 px are enlarged to it, bilinear (8 of them)"
    assert note in made.manifest.notes
    assert f"note: {note}" in made.out
    assert run("check", made.root, "--workers", 1).code == 0


def test_a_generator_of_32_px_is_shown_the_own_pixels_and_its_encoder_the_enlarged_ones(
    made: Made, tmp_path: Path
) -> None:
    data = open_data(DataConfig(path=made.root), 0, (32,))
    level, encoder_level = data.levels[32], data.levels[64]
    batch = next(batches(level, encoder_level, seed=0, start=0, batch_size=8))
    order = batch.samples.numpy()
    truth = pixels(made.root.parent / "src")[order]
    np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), truth)
    assert batch.encoder_images is not None
    np.testing.assert_allclose(batch.encoder_images.permute(0, 2, 3, 1), enlarged(truth, 64), atol=1.01)
    finish(train("vae", made.root, tmp_path / "vae", 1, batch_size=8))
    finish(train("gan", made.root, tmp_path / "gan", 2, vae=tmp_path / "vae", resolution=32, **SMALL))


def test_sets_without_enlarged_images_are_read_as_ever(tmp_path: Path) -> None:
    plain = Made(tmp_path / "set", "folder", photos(tmp_path / "src", 2), "--resolutions", "64,32")
    assert sorted(open_data(DataConfig(path=plain.root), 0, (32, 64)).levels) == [64]


def test_only_the_images_that_are_too_small_are_enlarged(tmp_path: Path) -> None:
    """28 px, as MNIST, in no level; 50 px, between two; and large ones, stored as without --enlarge."""
    source = photos(tmp_path / "src", 2)
    plain = Made(tmp_path / "plain", "folder", source, "--resolutions", "64,32")
    cifar(tmp_path / "src/mnist", 1, 28)
    replicas.picture(60, 50, 3).convert("L").save(source / "between.png")
    made = Made(tmp_path / "set", "folder", source, "--resolutions", "64,32", "--enlarge")
    for side in (64, 32):
        small = dict(zip(made.names, made.pixels(side), strict=True))
        for name, image in zip(plain.names, plain.pixels(side), strict=True):
            np.testing.assert_array_equal(small[name], image)
    digit = np.asarray(Image.open(source / "mnist/a/0.png"))[None]
    np.testing.assert_allclose(made.pixels()[made.names.index("mnist/a/0.png")][None], enlarged(digit, 64), atol=1.01)
    assert "images below 64 px are enlarged to it, bilinear (2 of them)" in made.out
    assert "grey images are stored as RGB (1 of them)" in made.out
    assert run("check", made.root, "--workers", 1).code == 0


def test_check_finds_a_level_of_an_enlarged_set_that_is_another_image(made: Made, tmp_path: Path) -> None:
    root = shutil.copytree(made.root, tmp_path / "set")
    other = Made(tmp_path / "other", "folder", cifar(tmp_path / "src", 9).parent / "src/b", "--resolutions", "16")
    shutil.copy(other.root / "16/00000.tar", tmp_path / "x.tar")
    with tarfile.open(root / "16/00000.tar") as tar:
        names = tar.getnames()
    with tarfile.open(tmp_path / "x.tar") as tar, tarfile.open(root / "16/00000.tar", "w") as new:
        data = tar.extractfile(tar.getmembers()[0]).read()  # type: ignore[union-attr]
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    outcome = run("check", root, "--workers", 1)
    refused(outcome, root / "16/00000.tar")


def test_small_images_in_tars_that_were_indexed_are_sent_to_make_folder(tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars/cifar.tar", "w") as tar:
        for path in sorted(cifar(tmp_path / "src").rglob("*.png")):
            tar.add(path, path.name)
    indexed = run("index", tmp_path / "tars")
    command = f"make folder {tmp_path / 'tars'} --out NEW --resolutions 64,32 --enlarge"
    assert command in indexed.out
    running = finish(train("vae", tmp_path / "tars", tmp_path / "run", 1), 2)
    assert command in running.err
    made = run(*command.replace("NEW", str(tmp_path / "new")).split(), "--workers", 1)
    assert made.code == 0, made.err
    assert open_dataset(tmp_path / "new", 64).count == 8


def test_small_images_of_a_parquet_file_are_enlarged_too(tmp_path: Path) -> None:
    replicas.hq_parquet(tmp_path / "cifar.parquet", [np.asarray(replicas.picture(32, 32, i)) for i in range(3)])
    made = Made(tmp_path / "set", "folder", tmp_path / "cifar.parquet", "--resolutions", "64,32", "--enlarge")
    np.testing.assert_array_equal(made.pixels(32), [np.asarray(replicas.picture(32, 32, i)) for i in range(3)])


def test_celeba_hq_of_32_px_is_sent_to_make_folder(tmp_path: Path) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 2, size=32)
    refused(attempt("celeba_hq", source), "--resolutions has 64", "are 32 px", f"make folder {source} --enlarge")
