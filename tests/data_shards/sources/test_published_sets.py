"""CelebA, 3D Chairs and Cars in every layout: pixels and labels against a computation by hand."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_shards.sources import published_counts
from tests.support import replicas
from tests.support.data_sets import Made, box_mean, cropped, hashes, refused, run

# CelebA

BOXES = {
    "paper": (9, 29, 169, 189),
    "square": (0, 20, 178, 198),
    "centre-148": (15, 35, 163, 183),
    "centre-108": (35, 55, 143, 163),
    "pggan": (89 - 64, 121 - 64, 89 + 64, 121 + 64),
}


@pytest.mark.parametrize("crop", BOXES)
def test_celeba_is_cropped_by_name_and_resized_up_or_down(tmp_path: Path, crop: str) -> None:
    source = replicas.celeba(tmp_path / "src", 3)
    more = [] if crop == "paper" else ["--crop", crop]
    made = Made(tmp_path / "set", "celeba", source, "--resolutions", "256,64", *more)
    files = sorted((source / "img_align_celeba").iterdir())
    truth = np.stack([cropped(file, BOXES[crop], 256) for file in files])
    np.testing.assert_array_equal(made.pixels(), truth)
    np.testing.assert_array_equal(made.pixels(64), box_mean(truth, 64))
    assert made.manifest.data_set == "celeba"
    assert made.manifest.recipe["crop"] == f"{crop}, box {BOXES[crop]} of 178x218"
    assert run("check", made.root, "--workers", 1).code == 0


def published_celeba(folder: Path, kind: str) -> Path:
    """CelebA as its authors lay it out: Img/, Anno/, Eval/."""
    replicas.celeba(folder / "Img", 4, kind, labels="")  # type: ignore[arg-type]
    replicas.celeba_labels(folder / "Anno", 4)
    (folder / "Eval").mkdir()
    shutil.move(folder / "Anno/list_eval_partition.txt", folder / "Eval")
    return folder


def test_every_layout_of_celeba_gives_the_same_set(tmp_path: Path) -> None:
    one = replicas.celeba(tmp_path / "one", 4)
    two = replicas.celeba(tmp_path / "two", 4, "zip")
    published = published_celeba(tmp_path / "published", "zip")
    kaggle = tmp_path / "kaggle"
    replicas.celeba(kaggle / "img_align_celeba", 4, labels="")
    replicas.celeba_labels(kaggle, 4)
    elsewhere = replicas.celeba(tmp_path / "elsewhere", 4, labels="")
    replicas.celeba_labels(tmp_path / "labels", 4)
    sources: list[list[object]] = [
        [one], [one / "img_align_celeba"], [two], [two / "img_align_celeba.zip"], [published],
        [published / "Img/img_align_celeba.zip"], [kaggle], [elsewhere, "--labels", tmp_path / "labels"],
    ]  # fmt: skip
    found = [
        hashes(Made(tmp_path / f"set{i}", "celeba", *source, "--resolutions", "64,32").root)
        for i, source in enumerate(sources)
    ]
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_celeba_brings_its_labels(tmp_path: Path, kind: str) -> None:
    source = replicas.celeba(tmp_path / "src", 5, labels="")
    values = replicas.celeba_labels(source, 5, kind)
    made = Made(tmp_path / "set", "celeba", source, "--resolutions", "64")
    labels = made.labels
    assert len(labels) == 40 + 1 + 1 + 10
    assert made.names == [f"{i + 1:06d}.jpg" for i in range(5)]
    for column, name in enumerate(replicas.ATTRIBUTES):
        assert labels[name] == (values["list_attr_celeba"][:, column] == 1).astype(int).tolist()
        assert made.classes(name) == ("no", "yes")
    for column, name in enumerate(replicas.LANDMARKS):
        assert labels[name] == values["list_landmarks_align_celeba"][:, column].tolist()
    assert labels["identity"] == values["identity_CelebA"][:, 0].tolist()
    assert labels["partition"] == values["list_eval_partition"][:, 0].tolist()
    assert made.classes("partition") == ("train", "validation", "test")
    assert "landmarks are px of the 178x218 image" in made.out


def test_labels_stay_with_their_images_when_some_are_missing_or_skipped(tmp_path: Path) -> None:
    source = replicas.celeba(tmp_path / "src", 6, labels="")
    values = replicas.celeba_labels(source, 6)
    (source / "img_align_celeba/000002.jpg").unlink()
    (source / "img_align_celeba/000004.jpg").write_bytes(b"no image")
    made = Made(tmp_path / "set", "celeba", source, "--resolutions", "64", "--on-bad", "skip")
    kept = [0, 2, 4, 5]
    assert made.names == [f"{i + 1:06d}.jpg" for i in kept]
    assert made.labels["identity"] == values["identity_CelebA"][kept, 0].tolist()
    assert made.labels["Male"] == (values["list_attr_celeba"][kept, 20] > 0).astype(int).tolist()
    assert [s.file for s in made.manifest.skipped] == ["000004.jpg"]
    note = "list_attr_celeba.txt: 1 of 6 rows have no image (000002.jpg)"
    assert note in made.manifest.notes
    assert note in made.out


def test_celeba_without_label_files_says_so(tmp_path: Path) -> None:
    source = replicas.celeba(tmp_path / "src", 2, labels="")
    made = Made(tmp_path / "set", "celeba", source, "--resolutions", "64")
    assert made.labels == {}
    assert "no label files were found" in made.out


def test_other_labels_are_another_set(tmp_path: Path) -> None:
    source = replicas.celeba(tmp_path / "src", 2)
    Made(tmp_path / "set", "celeba", source, "--resolutions", "64")
    again = ["make", "celeba", source, "--resolutions", "64", "--out", tmp_path / "set", "--workers", 1]
    assert "already complete" in run(*again).out
    (source / "identity_CelebA.txt").write_text("000001.jpg 1\n000002.jpg 2\n")
    refused(run(*again), tmp_path / "set", "label_files", "choose another folder")


# 3D Chairs


@pytest.mark.parametrize("kind", ["rendered_chairs", "parent", "zip"])
def test_chairs_are_cropped_and_labelled_by_their_names(tmp_path: Path, kind: str) -> None:
    root = replicas.chairs(tmp_path / "src", 3)
    source = {"rendered_chairs": root, "parent": root.parent, "zip": tmp_path / "chairs.zip"}[kind]
    if kind == "zip":
        shutil.make_archive(str(tmp_path / "chairs"), "zip", root.parent)
    made = Made(tmp_path / "set", "chairs", source)
    files = sorted(root.rglob("*.png"))
    assert made.names == [f"{file.parent.parent.name}/{file.name}" for file in files]
    np.testing.assert_array_equal(made.pixels(64), [cropped(file, (75, 75, 525, 525), 64) for file in files])
    models = sorted(folder.name for folder in root.iterdir())
    assert made.classes("model") == tuple(models)
    assert made.labels["model"] == [models.index(file.parent.parent.name) for file in files]
    assert made.labels["azimuth"] == [azimuth for _ in range(3) for _, azimuth in replicas.VIEWS]
    assert made.labels["elevation"] == [elevation for _ in range(3) for elevation, _ in replicas.VIEWS]
    assert made.manifest.data_set == "chairs"


# Cars


def expected_cars(folder: Path, split: str, size: int) -> list[tuple[Path, tuple[int, int, int, int], int]]:
    """What tests/support/replicas.py wrote, less the last box of the split, which has a side of 63 px."""
    files = sorted((folder / split).iterdir())
    return [
        (file, (11, 21 + i, 11 + 120 + i, 150 if i == 0 else 150 + 7 * i - 3), i % 3)
        for i, file in enumerate(files[: size - 1])
    ]


def test_cars_are_cropped_to_their_boxes_as_they_stand(tmp_path: Path) -> None:
    source = replicas.cars(tmp_path / "src", 9)
    made = Made(tmp_path / "set", "cars", source)
    expected = [*expected_cars(source, "cars_test", 4), *expected_cars(source, "cars_train", 5)]
    np.testing.assert_array_equal(made.pixels(64), [cropped(file, box, 64) for file, box, _ in expected])
    assert made.labels["class"] == [number for _, _, number in expected]
    assert made.classes("class") == replicas.CAR_CLASSES
    assert made.names == [file.relative_to(source).as_posix() for file, _, _ in expected]
    assert "2 boxes with a side under 64 px are left out" in made.manifest.notes
    assert made.manifest.data_set == "cars"
    assert made.manifest.skipped == ()


def test_the_devkits_own_annotations_of_test_images_have_boxes_and_no_classes(tmp_path: Path) -> None:
    source = replicas.cars(tmp_path / "src", 9)
    (source / "cars_test_annos_withlabels.mat").unlink()
    made = Made(tmp_path / "set", "cars", source)
    test, train = expected_cars(source, "cars_test", 4), expected_cars(source, "cars_train", 5)
    np.testing.assert_array_equal(made.pixels(64), [cropped(file, box, 64) for file, box, _ in [*test, *train]])
    assert made.labels["class"] == [-1 for _ in test] + [number for _, _, number in train]
    assert made.classes("class") == replicas.CAR_CLASSES
    words = "3 images have no class, label -1: cars_test_annos.mat has none; with cars_test_annos_withlabels.mat"
    assert any(note.startswith(words) for note in made.manifest.notes)
    again = Made(tmp_path / "again", "folder", tmp_path / "set", "--resolutions", "64")
    assert again.labels["class"] == made.labels["class"]
    assert again.classes("class") == replicas.CAR_CLASSES


def test_annotations_of_test_images_that_are_not_there_change_nothing(tmp_path: Path) -> None:
    """As before they were read: a set of the training images alone, and its recipe."""
    source = replicas.cars(tmp_path / "src", 4)
    shutil.rmtree(source / "cars_test")
    (source / "cars_test_annos_withlabels.mat").unlink()
    made = Made(tmp_path / "set", "cars", source)
    assert set(made.manifest.recipe["label_files"]) == {"cars_train_annos.mat", "cars_meta.mat"}
    assert not any("cars_test" in note for note in made.manifest.notes)


def test_flat_copies_of_cars(tmp_path: Path) -> None:
    source = replicas.cars(tmp_path / "src", 5, "flat")
    made = Made(tmp_path / "set", "cars", source, "--resolutions", "64,32")
    expected = expected_cars(source, "car_ims", 5)
    truth = np.stack([cropped(file, box, 64) for file, box, _ in expected])
    np.testing.assert_array_equal(made.pixels(), truth)
    np.testing.assert_array_equal(made.pixels(32), box_mean(truth, 32))
    assert made.labels["class"] == [number for _, _, number in expected]
    assert made.classes("class") == replicas.CAR_CLASSES


def test_a_box_of_64_px_is_kept_and_larger_levels_need_larger_boxes(tmp_path: Path) -> None:
    source = replicas.cars(tmp_path / "src", 3)
    rows = [(1, 1, 65, 65, 1, "00001.jpg"), (1, 1, 129, 65, 1, "00002.jpg")]
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
    annotations = replicas.struct_array(rows, fields)
    replicas.savemat(source / "devkit/cars_train_annos.mat", {"annotations": annotations})
    shutil.rmtree(source / "cars_test")
    made = Made(tmp_path / "set", "cars", source)
    assert made.manifest.count == 2
    assert "cars_test_annos_withlabels.mat: 1 of 1 rows have no image (00001.jpg)" in made.manifest.notes
    outcome = run("make", "cars", source, "--out", tmp_path / "large", "--resolutions", "128", "--workers", 1)
    refused(outcome, source, "no box has sides of 128 px", "smaller --resolutions")


# Folder


def test_a_zip_of_photos_gives_the_set_of_their_folder(tmp_path: Path) -> None:
    for i in range(4):
        path = tmp_path / "src" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        replicas.picture(90, 80, i).save(path)
    shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "src")
    one = Made(tmp_path / "one", "folder", tmp_path / "src", "--resolutions", "64")
    two = Made(tmp_path / "two", "folder", tmp_path / "photos.zip", "--resolutions", "64")
    assert hashes(one.root) == hashes(two.root)
    assert two.labels["class"] == [0, 0, 1, 1]
    assert (
        one.manifest.source_sha256
        == hashlib.sha256(
            b"".join(
                f"{p.relative_to(tmp_path / 'src').as_posix()}\t{hashlib.sha256(p.read_bytes()).hexdigest()}\n".encode()
                for p in sorted((tmp_path / "src").rglob("*.png"))
            )
        ).hexdigest()
    )


@pytest.mark.parametrize(
    ("data_set", "published"),
    [("celeba", "202,599"), ("celeba_hq", "30,000"), ("chairs", "86,366"), ("cars", "16,185"), ("dsprites", "737,280")],
)
def test_a_copy_with_fewer_images_than_were_published_says_so(data_set: str, published: str) -> None:
    """Table A.1's numbers."""
    whole = int(published.replace(",", ""))
    assert published_counts.fewer(data_set, whole) == ()
    words = f"{whole - 1:,} images of the {published} that were published: a download or an archive may not be whole"
    assert published_counts.fewer(data_set, whole - 1) == (words,)


def test_partial_copies_have_the_note_in_their_manifest(tmp_path: Path) -> None:
    replicas.celeba(tmp_path / "CELEBA", 3)
    for made, count, published in (
        (Made(tmp_path / "cars", "cars", replicas.cars(tmp_path / "src", 9)), 9, "16,185"),
        (Made(tmp_path / "chairs", "chairs", replicas.chairs(tmp_path, 1)), len(replicas.VIEWS), "86,366"),
        (Made(tmp_path / "celeba", "celeba", tmp_path / "CELEBA", "--resolutions", "64"), 3, "202,599"),
    ):
        assert any(n.startswith(f"{count} images of the {published} that") for n in made.manifest.notes), made.manifest
