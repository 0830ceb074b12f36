"""Data sets in parquet files, as Hugging Face and others publish them: columns of other names, labels, splits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from tests.support.data_sets import Made, attempt, photos, refused, run
from tests.support.replicas import _encoded, picture

SIZE = 64
CLASSES = ("airplane", "bird", "cat")


def image(seed: int) -> bytes:
    return _encoded(picture(SIZE, SIZE, seed), "PNG")


def structs(seeds: Sequence[int], prefix: str = "") -> list[dict[str, Any]]:
    return [{"bytes": image(seed), "path": f"{prefix}{seed}.png"} for seed in seeds]


def write(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None) -> Path:
    table = pyarrow.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=2)
    return path


def made(source: Path, *more: object) -> Made:
    return Made(source.parent / f"out of {source.name}", "folder", source, "--resolutions", SIZE, *more)


def pixels(seeds: Sequence[int]) -> list[np.ndarray]:
    return [np.asarray(picture(SIZE, SIZE, seed)) for seed in seeds]


@pytest.mark.parametrize("column", ["image", "img", "jpg", "scan"])
@pytest.mark.parametrize("plain", [False, True])
def test_images_are_read_whatever_their_column_is_called(tmp_path: Path, column: str, plain: bool) -> None:
    cells = [image(i) for i in range(3)] if plain else structs(range(3))
    result = made(write(tmp_path / "x.parquet", {"n": [1, 2, 3], column: cells}))
    np.testing.assert_array_equal(result.pixels(), pixels(range(3)))
    assert result.labels == {"n": [1, 2, 3]}
    assert result.names == (["00000", "00001", "00002"] if plain else ["0.png", "1.png", "2.png"])


def test_splits_are_read_in_order_with_the_names_of_their_classes(tmp_path: Path) -> None:
    features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(CLASSES)}}
    for split, start in (("test", 3), ("train", 0)):
        columns = {"img": structs(range(start, start + 3)), "label": [2, 0, 1], "score": [0.5, 1.5, 2.5]}
        write(tmp_path / f"src/data/{split}-00000-of-00001.parquet", columns, features)
    write(tmp_path / "src/.cache/train-00000-of-00001.parquet", {"img": structs([9]), "label": [0]})
    result = made(tmp_path / "src")
    np.testing.assert_array_equal(result.pixels(), pixels([3, 4, 5, 0, 1, 2]))
    assert result.labels == {"label": [2, 0, 1, 2, 0, 1]}
    assert result.classes("label") == CLASSES
    assert "left out of the labels: score (neither integers nor words)" in result.out


def test_columns_of_words_truth_and_lists(tmp_path: Path) -> None:
    columns = {
        "image": structs(range(4)),
        "mask": structs(range(10, 14)),
        "kind": pyarrow.array(["a", "b", "a", "b"]).dictionary_encode(),
        "good": [True, False, False, True],
        "text": ["one", "two", "three", "four"],
        "box": [[1, 2]] * 4,
        "age": [1, None, 3, 4],
    }
    result = made(write(tmp_path / "x.parquet", columns))
    np.testing.assert_array_equal(result.pixels(), pixels(range(4)))
    assert result.labels == {"good": [1, 0, 0, 1], "kind": [0, 1, 0, 1]}
    (note,) = [note for note in result.manifest.notes if note.startswith("left out of the labels")]
    assert "age (not in every sample)" in note
    assert all(name in note for name in ("box (neither", "mask (neither", "text (a text of its own"))


def test_of_two_columns_of_images_the_named_one_is_taken(tmp_path: Path) -> None:
    columns = {"original_image": structs(range(2)), "edited_image": structs(range(5, 7))}
    path = write(tmp_path / "x.parquet", columns)
    refused(attempt("folder", path), path, "2 columns with bytes", "original_image, edited_image", "--image")
    refused(attempt("folder", path, "--image", "other"), path, "no column other with bytes", "original_image")
    np.testing.assert_array_equal(made(path, "--image", "edited_image").pixels(), pixels([5, 6]))


def test_a_table_beside_images_is_no_container(tmp_path: Path) -> None:
    source = photos(tmp_path / "src", 4)
    write(source / "metadata.parquet", {"file_name": ["a"], "thumbnail": [b"x"]})
    result = made(source)
    assert result.manifest.count == 4
    assert "1 file with no extension of an image: .parquet 1" in result.out


def test_a_row_without_bytes_is_named_and_can_be_skipped_with_its_label(tmp_path: Path) -> None:
    cells = structs(range(4))
    cells[1]["bytes"] = None
    path = write(tmp_path / "x.parquet", {"image": cells, "label": [5, 6, 7, 8]})
    refused(attempt("folder", path), "x.parquet: row 1 (1.png)", "holds no image bytes")
    assert made(path, "--on-bad", "skip").labels == {"label": [5, 7, 8]}


def test_tables_without_images_and_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path / "src/x.parquet", {"url": ["http://a"], "n": [1]})
    refused(attempt("folder", tmp_path / "src"), path, "no column image with bytes", "url (string)", "name files")
    path.write_bytes(path.read_bytes()[:-20])
    refused(attempt("folder", tmp_path / "src"), path, "not a readable parquet file", "copy it again")


def test_other_labels_are_another_set(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"image": structs(range(2)), "label": [0, 1]})
    make = ["make", "folder", path, "--out", made(path).root, "--resolutions", SIZE]
    assert "already complete" in run(*make).out
    write(path, {"image": structs(range(2)), "label": [1, 1]})
    refused(run(*make), "labels: ", "choose another folder")
