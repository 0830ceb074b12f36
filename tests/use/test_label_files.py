"""Label files that lie among images: StyleGAN's dataset.json, Hugging Face's metadata.csv and metadata.jsonl."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.data_sets import Made, attempt, photos, refused, run

PATHS = ["cats/001.png", "cats/003.png", "dogs/000.png", "dogs/002.png"]  # as `make` sorts them


def made(source: Path, *more: object) -> Made:
    return Made(source.parent / "out", "folder", source, "--resolutions", "64", *more)


def stylegan(folder: Path, labels: Any) -> Path:
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def source(folder: Path) -> Path:
    return photos(folder, 4)


@pytest.mark.parametrize("kind", ["folder", "zip", "zip of a folder"])
@pytest.mark.parametrize(
    ("values", "numbers", "classes"),
    [
        ([6, 7, 6, 0], [6, 7, 6, 0], None),
        (["red", "blue", "red", "red"], [1, 0, 1, 1], ("blue", "red")),
    ],
)
def test_dataset_json_labels_the_images_and_sub_folders_do_not(
    tmp_path: Path, kind: str, values: list[Any], numbers: list[int], classes: tuple[str, ...] | None
) -> None:
    folder = stylegan(source(tmp_path / "src"), [list(pair) for pair in zip(PATHS, values, strict=True)][::-1])
    if kind != "folder":
        top = {"root_dir": tmp_path, "base_dir": "src"} if kind == "zip of a folder" else {"root_dir": folder}
        folder = Path(shutil.make_archive(str(tmp_path / "set"), "zip", **top))
    result = made(folder)
    assert result.labels == {"class": numbers}
    assert result.classes("class") == classes
    assert "left out" not in result.out


def test_paths_of_windows_name_the_same_images(tmp_path: Path) -> None:
    folder = stylegan(source(tmp_path / "src"), {path.replace("/", "\\"): i for i, path in enumerate(PATHS)})
    assert made(folder).labels == {"class": [0, 1, 2, 3]}


def test_a_dataset_json_without_labels_means_none(tmp_path: Path) -> None:
    """As StyleGAN's tool writes it, whose sub-folders hold a thousand images each and are no classes."""
    result = made(stylegan(source(tmp_path / "src"), None))
    assert result.labels == {}
    assert "note: dataset.json: says that the images have no labels" in result.out


@pytest.mark.parametrize("value", [[0.1, 0.9], 0.5, [1, 0], None])
def test_labels_that_are_no_classes_are_left_out_with_a_note(tmp_path: Path, value: Any) -> None:
    result = made(stylegan(source(tmp_path / "src"), [[path, value] for path in PATHS]))
    assert result.labels == {}
    assert "note: left out of the labels: class (neither integers nor words)" in result.out


def test_images_without_a_row_and_rows_without_an_image_are_told(tmp_path: Path) -> None:
    rows = [[path, i] for i, path in enumerate(PATHS[:-1])] + [["gone.png", 5]]
    result = made(stylegan(source(tmp_path / "src"), rows))
    assert result.labels == {}
    assert "dataset.json: has no row for 1 of 4 images (dogs/002.png)" in result.out
    assert "dataset.json: 1 of 4 rows have no image (gone.png)" in result.out
    assert "class (not in every sample)" in result.out


def test_images_that_are_skipped_take_their_labels_along(tmp_path: Path) -> None:
    folder = stylegan(source(tmp_path / "src"), [[path, i] for i, path in enumerate(PATHS)])
    (folder / PATHS[1]).write_text("no image")
    assert made(folder, "--on-bad", "skip").labels == {"class": [0, 2, 3]}


@pytest.mark.parametrize("content", ['{"labels": ["cat", "dog"]}', '{"images": []}', "[1, 2]"])
def test_another_programs_dataset_json_is_no_label_file(tmp_path: Path, content: str) -> None:
    folder = source(tmp_path / "src")
    (folder / "dataset.json").write_text(content)
    result = made(folder)
    assert result.classes("class") == ("cats", "dogs")
    assert "1 file with no extension of an image: .json 1" in result.out


def test_a_damaged_label_file_is_refused(tmp_path: Path) -> None:
    folder = source(tmp_path / "src")
    (folder / "dataset.json").write_text('{"labels": [["cats/001.png", 1],]}')
    refused(attempt("folder", folder), "dataset.json", "line 1 column 33", "correct it, or move it away")


def test_other_labels_are_another_set(tmp_path: Path) -> None:
    folder = stylegan(source(tmp_path / "src"), [[path, i] for i, path in enumerate(PATHS)])
    make = ["make", "folder", folder, "--out", made(folder).root, "--resolutions", "64"]
    assert "already complete" in run(*make).out
    stylegan(folder, [[path, 0] for path in PATHS])
    refused(run(*make), "label_files", "choose another folder")


CSV = """\ufefffile_name,age,kind,text,note/by
cats/001.png,01,tabby,a cat,x
cats/003.png,2,tabby,"another, cat",x
dogs/000.png,3,pug,a dog,x
dogs/002.png,4,pug,,x
"""


def test_metadata_csv_labels_the_images(tmp_path: Path) -> None:
    folder = source(tmp_path / "src")
    (folder / "metadata.csv").write_text(CSV, encoding="utf-8")
    result = made(folder)
    assert result.labels == {"age": [1, 2, 3, 4], "kind": [1, 1, 0, 0], "note/by": [0, 0, 0, 0], "class": [0, 0, 1, 1]}
    assert result.classes("kind") == ("pug", "tabby")
    assert "text (not in every sample)" in result.out


def test_metadata_jsonl_of_every_split_labels_its_images(tmp_path: Path) -> None:
    folder = source(tmp_path / "src")
    for name in ("cats", "dogs"):
        rows = [
            {"file_name": path.name, "class": f"a {name}", "n": 3} for path in sorted((folder / name).glob("*.png"))
        ]
        (folder / name / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    result = made(folder)
    assert result.labels == {"class": [0, 0, 1, 1], "n": [3, 3, 3, 3]}
    assert result.classes("class") == ("a cats", "a dogs")


def test_a_metadata_csv_without_file_names_is_no_label_file(tmp_path: Path) -> None:
    folder = source(tmp_path / "src")
    (folder / "metadata.csv").write_text("id,label\n1,2\n")
    assert made(folder).classes("class") == ("cats", "dogs")
