"""Drawn sprites have the published bits, and are what their factors say."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest

from common.errors import UserError
from data_shards.read.loader import open_dataset
from data_shards.sources.sprites.dsprites import dsprites
from data_shards.sources.sprites.renderer import COUNT, classes, index_of, render
from tests.support.data_sets import hashes, make_dsprites, refused, run

REAL = json.loads((Path(__file__).parent / "dsprites_sha256.json").read_text())
REAL = REAL.get("sha256", REAL)


def test_all_256_real_images_are_drawn_bit_for_bit() -> None:
    index = np.array([int(i) for i in REAL])
    drawn = render(index)
    wrong = [
        i
        for i, image in zip(index, drawn, strict=True)
        if hashlib.sha256(np.packbits(image > 0).tobytes()).hexdigest() != REAL[str(i)]
    ]
    assert len(index) == 256
    assert not wrong


def test_the_pixel_of_image_94091_that_is_not_as_published_has_its_centre_on_an_edge() -> None:
    """Published: on. If it is drawn so one day, README, docs/data.md and the renderer must say how many differ then."""
    (image,) = render([94_091])
    assert image[34, 43] == 0
    _, scale, orientation, x, y = classes([94_091])[0]
    angle = 2 * math.pi * orientation / 39
    axes = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])  # of the square, y down
    offset = np.array([43.5, 34.5]) - (16 + 32 * x / 31, 16 + 32 * y / 31)
    half = 9.6 * (0.5 + 0.1 * scale)
    distances = np.abs(axes @ offset)
    assert abs(distances.max() - half) < 1e-4
    assert distances.min() < half - 1


@pytest.mark.parametrize("size", [128, 256])
def test_anti_aliased_sprites_have_the_area_of_their_outline(size: int) -> None:
    scale = 0.8  # class 3
    square, ellipse = index_of(np.array([[0, 3, 7, 11, 20], [1, 3, 7, 11, 20]]))
    area = render([square, ellipse], size).astype(np.float64).sum((1, 2)) / 255 * (64 / size) ** 2
    truth = [(2 * 9.6 * scale) ** 2, 50 * math.sin(2 * math.pi / 100) * (9.6 * scale) ** 2]
    np.testing.assert_allclose(area, truth, rtol=2e-3)


def test_index_and_classes_are_inverse() -> None:
    index = np.arange(0, COUNT, 997)
    np.testing.assert_array_equal(index_of(classes(index)), index)
    np.testing.assert_array_equal(classes([1, 32, 1024, 40_960, 245_760]), np.eye(5, dtype=np.int64)[::-1])


def test_a_stored_64_px_set_is_bit_exact_with_its_factors(tmp_path: Path) -> None:
    level = open_dataset(make_dsprites(tmp_path / "set"), 64)
    index = level.labels["index"]
    assert (np.diff(index) > 0).all()
    images = level.read_samples(np.arange(level.count))[:, 0].numpy()
    np.testing.assert_array_equal(images, render(index) * 255)
    np.testing.assert_array_equal(level.factors, classes(index))


def replica(path: Path, index: np.ndarray) -> None:
    """A small file with the published one's arrays (its metadata is pickled: it must not be read)."""
    table = np.concatenate([np.zeros((len(index), 1), np.int64), classes(index)], 1)
    if path.suffix == ".npz":
        trap = np.array([{"never": "unpickled"}], dtype=object)
        np.savez_compressed(path, imgs=render(index), latents_classes=table, metadata=trap)
        return
    with h5py.File(path, "w") as file:
        file["imgs"] = render(index)
        file["latents/classes"] = table


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_the_published_file_is_read(tmp_path: Path, kind: str) -> None:
    index = np.sort(np.random.default_rng(0).permutation(COUNT)[:5000])
    replica(tmp_path / f"real.{kind}", index)
    outcome = run("make", "dsprites", "--out", tmp_path / "set", "--count", 50, "--npz", tmp_path / f"real.{kind}")
    assert outcome.code == 0, outcome.err
    level = open_dataset(tmp_path / "set", 64)
    assert set(level.labels["index"]) <= set(index)
    images = level.read_samples(np.arange(50))[:, 0].numpy()
    np.testing.assert_array_equal(images, render(level.labels["index"]) * 255)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(b"no zip")
    refused(
        run("make", "dsprites", "--out", tmp_path / "o", "--all", "--npz", path),
        path,
        "not a readable npz",
        "leave",
    )
    np.savez(path, imgs=np.array([{}], dtype=object))
    refused(run("make", "dsprites", "--out", tmp_path / "o", "--all", "--npz", path), path, "imgs", "object")
    replica(path, np.arange(20))
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes(40) + data[100:])
    refused(run("make", "dsprites", "--out", tmp_path / "o", "--all", "--npz", path), path, "damaged")
    assert not (tmp_path / "o").exists()


def test_a_subset_is_the_same_every_time() -> None:
    np.testing.assert_array_equal(dsprites(100, 64).index, dsprites(100, 64).index)
    assert set(dsprites(50, 64).index) < set(dsprites(100, 64).index)
    with pytest.raises(UserError, match="--count is 0"):
        dsprites(0, 64)


def test_levels_above_64_px_are_box_means_of_the_largest(tmp_path: Path) -> None:
    out = make_dsprites(tmp_path / "set", 6, "256,64,128", 4)
    top = open_dataset(out, 256)
    large = top.read_samples(np.arange(6)).numpy().astype(np.int64)
    np.testing.assert_array_equal(large[:, 0], render(top.labels["index"], 256))
    for size in (128, 64):
        k = 256 // size
        truth = np.floor(large.reshape(6, 1, size, k, size, k).mean((3, 5)) + 0.5)
        np.testing.assert_array_equal(open_dataset(out, size).read_samples(np.arange(6)).numpy(), truth)
    assert run("check", out).code == 0
    assert hashes(out).keys() >= {"manifest.json", "256/index.npz", "64/00001.tar"}
