"""Published data sets with something wrong: one clear message with file, value and remedy, and nothing published."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_shards.read.loader import open_dataset
from tests.support import replicas
from tests.support.data_sets import attempt, lines_of, refused

# All of them


@pytest.mark.parametrize("kind", ["celeba", "celeba_hq", "chairs", "cars", "folder"])
def test_a_source_that_is_not_there(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "none"
    refused(attempt(kind, source), source, "no such folder", "name a folder of images")


# CelebA


def test_images_of_another_size_are_no_celeba(tmp_path: Path) -> None:
    source = replicas.celeba(tmp_path / "src", 3)
    replicas.picture(178, 217, 0).save(source / "img_align_celeba/000002.jpg")
    refused(attempt("celeba", source, size=256), "000002.jpg: is 178x217, not 178x218", "as CelebA has it")


def test_two_images_of_one_name(tmp_path: Path) -> None:
    source = replicas.celeba(tmp_path / "src", 2)
    (source / "img_align_celeba/more").mkdir()
    shutil.copy(source / "img_align_celeba/000001.jpg", source / "img_align_celeba/more")
    words = (source, "000001.jpg and more/000001.jpg", "two images of one name", "remove one")
    refused(attempt("celeba", source), *words)


def test_annotations_of_other_images(tmp_path: Path) -> None:
    source = replicas.celeba(tmp_path / "src", 8, labels="")
    replicas.celeba_labels(source, 1)
    words = (
        source / "list_attr_celeba.txt",
        "no row for 7 of 8 images",
        "000002.jpg",
        "000006.jpg, ...",
        "move it away",
    )
    outcome = attempt("celeba", source, "--on-bad", "skip")
    refused(outcome, *words)
    assert "000007.jpg" not in outcome.err


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("identity_CelebA.txt", "000001.jpg one\n000002.jpg 2\n", ["the row of 000001.jpg", "integers", "'one'"]),
        ("identity_CelebA.txt", "000001.jpg 1 2\n000002.jpg 2\n", ["the row of 000001.jpg has 2 values, not 1"]),
        ("list_attr_celeba.txt", "3\nBald Bangs\n000001.jpg 1 1\n000002.jpg 1 1\n", ["2 rows, its first line says 3"]),
        ("list_attr_celeba.txt", "2\n000001.jpg 1 1\n000002.jpg 1 1\n", ["no header", "copy the published file"]),
        ("list_attr_celeba.txt", "", ["is empty"]),
        ("list_attr_celeba.txt", "0\nBald Bangs\n", ["has 0 rows", "copy the published file"]),
        ("list_attr_celeba.csv", "image_id,Bald\n", ["has 0 rows"]),
        ("list_attr_celeba.csv", "image_id,Bald\n000001.jpg,1,1\n000002.jpg,1\n", ["000001.jpg has 2 values, not 1"]),
    ],
)
def test_damaged_label_files(tmp_path: Path, file: str, text: str, words: list[str]) -> None:
    source = replicas.celeba(tmp_path / "src", 2, labels="")
    (source / file).write_text(text)
    refused(attempt("celeba", source), source / file, *words)


def test_a_folder_of_labels_that_holds_none(tmp_path: Path) -> None:
    source = replicas.celeba(tmp_path / "src", 1)
    words = ("--labels is", "holds none of list_attr_celeba.txt", "name the folder")
    refused(attempt("celeba", source, "--labels", tmp_path / "nothing"), *words)


def test_a_crop_that_there_is_not(tmp_path: Path) -> None:
    refused(attempt("celeba", replicas.celeba(tmp_path / "src", 1), "--crop", "face"), "--crop", "face", "centre-148")


# CelebA-HQ


def test_images_of_another_size_are_no_celeba_hq(tmp_path: Path) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 4, size=128)
    replicas.picture(128, 127, 0).save(source / "00001.png")
    replicas.picture(64, 64, 0).save(source / "00003.png")
    outcome = attempt("celeba_hq", source)
    refused(outcome, "2 problems", "00001.png: is 128x127, not 128x128", "00003.png: is 64x64, not 128x128")
    assert attempt("celeba_hq", source, "--on-bad", "skip").code == 0


def test_a_first_image_of_an_odd_size_is_measured_against_1024(tmp_path: Path) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 1, size=128)
    replicas.picture(100, 100, 0).save(source / "00000.png")
    refused(attempt("celeba_hq", source), "00000.png: is 100x100, not 1024x1024")


def test_a_level_larger_than_the_images(tmp_path: Path) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 1, size=64)
    refused(attempt("celeba_hq", source, size=128), "--resolutions has 128", "are 64 px", "choose at most 64")


def test_bad_image_lists(tmp_path: Path) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 2, size=64)
    path = tmp_path / "list.txt"
    refused(attempt("celeba_hq", source, "--image-list", path), "--image-list is", path, "no such file")
    path.write_text("idx orig_file\n0 000001.jpg\n")
    refused(attempt("celeba_hq", source, "--image-list", path), path, "no column final_md5", "image_list.txt")
    path.write_text("idx orig_file final_md5\n0 000001.jpg 123\n")
    refused(attempt("celeba_hq", source, "--image-list", path), path, "0 000001.jpg 123", "copy the published file")
    refused(attempt("celeba_hq", source, "--labels", tmp_path), "--labels needs --image-list")


def test_numbers_that_do_not_say_where_they_begin(tmp_path: Path) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 4, size=32)
    replicas.celeba_labels(tmp_path / "labels", 9)
    listed = replicas.image_list(tmp_path / "list.txt", [replicas.hq_image(i, 32) for i in range(4)])
    more = ("--image-list", listed, "--labels", tmp_path / "labels")
    (source / "00000.png").unlink()
    refused(attempt("celeba_hq", source, *more, size=32), source, "no image is number 0 or 4", "leave --labels out")
    replicas.picture(32, 32, 0).save(source / "00000.png")
    replicas.picture(32, 32, 0).save(source / "00017.png")
    refused(attempt("celeba_hq", source, *more, size=32), source, "1 images are not in the image list", "00017.png")


def test_two_layouts_at_once(tmp_path: Path) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 1, "tfrecords", size=32)
    replicas.celeba_hq(source, 1, "parquet", size=32)
    refused(attempt("celeba_hq", source, size=32), source, "celebahq-r02", "train-00000", "name the one to read")


# 3D Chairs


def test_chairs_of_another_size_or_name(tmp_path: Path) -> None:
    root = replicas.chairs(tmp_path / "src", 1)
    renders = next(root.iterdir()) / "renders"
    replicas.picture(600, 599, 0).save(renders / "image_007_p020_t011_r096.png")
    replicas.picture(600, 600, 0).save(renders / "view.png")
    outcome = attempt("chairs", root)
    refused(outcome, "2 problems")
    assert "is 600x599, not 600x600" in lines_of(outcome, f"{renders.parent.name}/renders/image_007")
    assert "not named image_NNN_pPPP_tTTT_rRRR.png; give it" in lines_of(outcome, "renders/view.png")
    assert attempt("chairs", root, "--on-bad", "skip").code == 0
    assert open_dataset(root.parent / "out", 64).count == 4


# Cars


def annotate(source: Path, **change: Any) -> Path:
    """Write cars_train_annos.mat anew; change: other values of fields of the first row, None to drop the field."""
    row: dict[str, Any] = {"bbox_x1": 1, "bbox_y1": 1, "bbox_x2": 90, "bbox_y2": 90, "class": 1, "fname": "00001.jpg"}
    rows = [{**row, **change}, {**row, "fname": "00002.jpg"}]
    fields = [field for field in row if change.get(field, 0) is not None]
    content = replicas.struct_array([tuple(r[f] for f in fields) for r in rows], fields)
    path = source / "devkit/cars_train_annos.mat"
    replicas.savemat(path, {"annotations": content})
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class": None}, ["no class", "copy the devkit again"]),
        ({"bbox_x2": None}, ["no bbox_x2", "copy the devkit again"]),
        ({"bbox_x2": "wide"}, ["the row of 00001.jpg does not hold integers"]),
        ({"class": 4}, ["class 4 of 3 named classes"]),
        ({"class": 0}, ["named classes", "copy the devkit"]),
        ({"fname": "00009.jpg"}, ["no row for 1 of 2 images (00001.jpg)"]),
    ],
)
def test_annotations_that_do_not_fit(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    source = replicas.cars(tmp_path / "src", 4)
    path = annotate(source, **change)
    refused(attempt("cars", source), path.name, *words)


def test_a_box_outside_its_image(tmp_path: Path) -> None:
    source = replicas.cars(tmp_path / "src", 4)
    annotate(source, bbox_x2=201)
    words = ("cars_train/00001.jpg: is 200x150, its box is (1, 1, 201, 90)", "that the annotations are about")
    refused(attempt("cars", source), *words)
    annotate(source, bbox_x2=200, bbox_y2=150)
    assert attempt("cars", source).code == 0


def test_mat_files_without_the_expected_arrays(tmp_path: Path) -> None:
    source = replicas.cars(tmp_path / "src", 4)
    path = source / "devkit/cars_train_annos.mat"
    replicas.savemat(path, {"boxes": np.zeros((2, 4))})
    refused(attempt("cars", source), path, "holds no array annotations", "copy the devkit again")
    replicas.savemat(path, {"annotations": np.zeros((2, 4))})
    refused(attempt("cars", source), path, "fields none", "no bbox_x1")
    for data in (b"", b"MATLAB 5.0 MAT-file" + bytes(300), b"x" * 1000):
        path.write_bytes(data)
        refused(attempt("cars", source), path, "not a readable .mat file", "copy the devkit again")


def test_annotations_that_are_missing(tmp_path: Path) -> None:
    source = replicas.cars(tmp_path / "src", 4)
    (source / "cars_test_annos_withlabels.mat").unlink()
    (source / "devkit/cars_test_annos.mat").unlink()
    refused(attempt("cars", source), "cars_test/00001.jpg needs cars_test_annos_withlabels.mat", "add it")
    shutil.rmtree(source / "devkit")
    refused(attempt("cars", source), source, "holds none of cars_train_annos.mat", "put the devkit there")


def test_images_that_may_belong_to_either_split(tmp_path: Path) -> None:
    source = replicas.cars(tmp_path / "src", 4)
    shutil.move(source / "cars_train/00001.jpg", source / "00001.jpg")
    words = ("00001.jpg may belong to cars_train_annos.mat or cars_test_annos_withlabels.mat", "keep the images in")
    refused(attempt("cars", source), source, *words)
    Image.open(source / "00001.jpg").save(source / "cars_train/00001.jpg")
    shutil.rmtree(source / "cars_test")
    (source / "cars_test_annos_withlabels.mat").unlink()
    words = "00001.jpg may belong to cars_train_annos.mat or cars_test_annos.mat; keep the images in cars_train"
    refused(attempt("cars", source), source, words)
    (source / "devkit/cars_test_annos.mat").unlink()
    refused(attempt("cars", source), source, "more than one image of a name (00001.jpg)", "remove the copies")
