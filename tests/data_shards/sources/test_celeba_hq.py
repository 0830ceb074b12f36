"""CelebA-HQ in every layout: pixels, names, verification and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support import replicas
from tests.support.data_sets import Made, box_mean, hashes, refused, run


@pytest.mark.parametrize("kind", ["folder", "zip", "tfrecords", "parquet"])
@pytest.mark.parametrize("levels", [(256, 64), (64, 16)])
def test_celeba_hq_is_taken_as_it_is_from_every_layout(tmp_path: Path, kind: Any, levels: tuple[int, int]) -> None:
    """The largest level is the whole image, or its exact box mean."""
    source = replicas.celeba_hq(tmp_path / "src", 7, kind, size=256)
    made = Made(tmp_path / "set", "celeba_hq", source, "--resolutions", f"{levels[0]},{levels[1]}")
    whole = np.stack([replicas.hq_image(i, 256) for i in range(7)])
    top = box_mean(whole, levels[0])
    np.testing.assert_array_equal(made.pixels(), top)
    np.testing.assert_array_equal(made.pixels(levels[1]), box_mean(top, levels[1]))
    suffix = "" if kind == "tfrecords" else ".png"
    assert made.names == [f"{i:05d}{suffix}" for i in range(7)]
    assert made.manifest.data_set == "celeba_hq"
    assert "the images are 256 px, the published ones 1024 px" in made.out


@pytest.mark.parametrize("kind", ["folder", "zip", "tfrecords", "parquet"])
def test_celeba_hq_at_its_own_size(tmp_path: Path, kind: Any) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 2, kind)
    made = Made(tmp_path / "set", "celeba_hq", source, "--resolutions", "1024,256")
    np.testing.assert_array_equal(made.pixels(), [replicas.hq_image(i, 1024) for i in range(2)])
    assert "published ones" not in made.out


def test_two_workers_write_what_one_does(tmp_path: Path) -> None:
    for kind in ("zip", "tfrecords", "parquet"):
        source = replicas.celeba_hq(tmp_path / kind, 5, kind, size=64)  # type: ignore[arg-type]
        listed = replicas.image_list(tmp_path / "list.txt", [replicas.hq_image(3, 64)])
        args = ["celeba_hq", source, "--resolutions", "32", "--samples-per-shard", 2, "--image-list", listed]
        one = Made(tmp_path / f"{kind}1", *args).root
        outcome = run("make", *args, "--out", tmp_path / f"{kind}2", "--workers", 2)
        assert outcome.code == 0, outcome.err
        assert hashes(one) == hashes(tmp_path / f"{kind}2")


def test_files_that_are_not_padded_are_sorted_by_number(tmp_path: Path) -> None:
    for i in (0, 2, 10, 9):
        Image.fromarray(replicas.hq_image(i, 64)).save(tmp_path / f"{i}.png")
    made = Made(tmp_path / "set", "celeba_hq", tmp_path, "--resolutions", "64")
    assert made.names == ["0.png", "2.png", "9.png", "10.png"]


def test_an_image_list_counts_the_identical_images(tmp_path: Path) -> None:
    """Also where lower levels alone are stored: the hash is of the whole image."""
    source = replicas.celeba_hq(tmp_path / "src", 5, size=128)
    images = [replicas.hq_image(i, 128) for i in range(5)]
    listed = replicas.image_list(tmp_path / "list.txt", images)
    changed = images[1].copy()
    changed[7, 9, 2] ^= 1
    Image.fromarray(changed).save(source / "00001.png")
    Image.fromarray(images[4]).save(source / "00004.jpg")
    (source / "00004.png").unlink()
    made = Made(tmp_path / "set", "celeba_hq", source, "--resolutions", "32", "--image-list", listed)
    assert made.labels == {"pixel_identical": [1, 0, 1, 1, 0]}
    note = "3 of 5 images are pixel-identical to ones of the image list"
    assert note in made.manifest.notes
    assert f"note: {note}" in made.out


def test_celeba_hq_takes_the_labels_of_the_celeba_images_it_was_made_of(tmp_path: Path) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 4, "tfrecords", size=32)
    values = replicas.celeba_labels(tmp_path / "labels", 9)
    listed = replicas.image_list(tmp_path / "list.txt", [replicas.hq_image(i, 32) for i in range(4)], first_celeba=3)
    more = ["--image-list", listed, "--labels", tmp_path / "labels"]
    made = Made(tmp_path / "set", "celeba_hq", source, "--resolutions", "32", *more)
    rows = [5, 4, 3, 2]  # 000006.jpg, ...
    assert made.labels["identity"] == values["identity_CelebA"][rows, 0].tolist()
    assert made.labels["Smiling"] == (values["list_attr_celeba"][rows, 31] > 0).astype(int).tolist()
    assert made.labels["pixel_identical"] == [1, 1, 1, 1]
    assert "lefteye_x" not in made.labels, "landmarks are about other pixels"
    counted_from_1 = tmp_path / "from1"
    counted_from_1.mkdir()
    for i in range(4):
        Image.fromarray(replicas.hq_image(i, 32)).save(counted_from_1 / f"{i + 1:05d}.png")
    other = Made(tmp_path / "set1", "celeba_hq", counted_from_1, "--resolutions", "32", *more)
    assert other.labels == made.labels


def test_labels_are_refused_where_pixels_and_number_disagree(tmp_path: Path) -> None:
    """A folder with two images renamed, and parquet without paths, whose rows are in an order of their own."""
    images = [replicas.hq_image(i, 32) for i in range(4)]
    replicas.celeba_labels(tmp_path / "labels", 9)
    listed = replicas.image_list(tmp_path / "list.txt", images, first_celeba=3)
    (tmp_path / "src").mkdir()
    for name, number in enumerate((0, 2, 1, 3)):
        Image.fromarray(images[number]).save(tmp_path / "src" / f"{name:05d}.png")
    argv = ["make", "celeba_hq", "--out", tmp_path / "set", "--resolutions", 32, "--workers", 1, "--image-list", listed]
    refused(run(*argv, tmp_path / "src", "--labels", tmp_path / "labels"), "00001.png", "number 2", "another person's")
    replicas.hq_parquet(tmp_path / "rows" / "a.parquet", images, paths=False)
    labelled = [*argv[:3], tmp_path / "other", *argv[4:], tmp_path / "rows", "--labels", tmp_path / "labels"]
    refused(run(*labelled), tmp_path / "rows", "no paths", "leave --labels out")
    assert run(*labelled[:-2]).code == 0


def test_an_image_list_without_rows_is_refused(tmp_path: Path) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 2, "folder", size=32)
    listed = replicas.image_list(tmp_path / "list.txt", [])
    argv = ["make", "celeba_hq", source, "--out", tmp_path / "set", "--resolutions", 32, "--image-list", listed]
    refused(run(*argv), listed, "holds no rows")
