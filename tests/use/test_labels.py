"""Labels as others write them: class names, zero-padded numbers, nested json, StyleGAN's dataset.json."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data_shards.format import manifest
from data_shards.read.loader import open_dataset
from tests.support.data_sets import hashes, make_dsprites, run
from tests.support.replicas import picture

SIZE = 64


def labelled_tar(root: Path, samples: Sequence[dict[str, bytes]], name: str = "x.tar", start: int = 0) -> Path:
    """A tar of samples: members by extension, beside an image."""
    root.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    picture(SIZE, SIZE, 1).save(stream, "PNG")
    with tarfile.open(root / name, "w") as tar:
        for i, members in enumerate(samples, start):
            for extension, data in {"png": stream.getvalue(), **members}.items():
                info = tarfile.TarInfo(f"{i}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return root


def indexed(root: Path) -> tuple[dict[str, list[int]], dict[str, tuple[str, ...] | None], str]:
    """Labels of the samples, classes by label, and notes, after `index`."""
    outcome = run("index", root)
    assert outcome.code == 0, outcome.err
    level = open_dataset(root, SIZE)
    notes = "\n".join(level.manifest.notes)
    assert all(f"note: {note}" in outcome.out for note in level.manifest.notes)
    labels = {name: values.tolist() for name, values in level.labels.items()}
    return labels, {label.name: label.classes for label in level.manifest.labels}, notes


def as_json(*contents: Any) -> list[dict[str, bytes]]:
    return [{"json": json.dumps(content).encode()} for content in contents]


@pytest.mark.parametrize(
    ("texts", "numbers", "classes"),
    [
        ([b"01", b"02", b"10", b"01"], [1, 2, 10, 1], None),
        ([b"3\n", b" 4 ", b"-1", b"+5\r\n"], [3, 4, -1, 5], None),
        ([b"cat", b"dog\n", b"\xef\xbb\xbfant", b"dog"], [1, 2, 0, 2], ("ant", "cat", "dog")),
        ([b"cat", b"7", b"07", b"cat"], [1, 0, 0, 1], ("7", "cat")),
        ([b"n01440764", "caf\xe9".encode()], [1, 0], ("caf\xe9", "n01440764")),
        ([b"1.5", b"2.5"], [0, 1], ("1.5", "2.5")),
    ],
)
def test_a_cls_member_is_a_number_or_a_name(
    tmp_path: Path, texts: list[bytes], numbers: list[int], classes: tuple[str, ...] | None
) -> None:
    labels, tables, _ = indexed(labelled_tar(tmp_path, [{"cls": text} for text in texts]))
    assert labels == {"class": numbers}
    assert tables == {"class": classes}
    assert run("check", tmp_path, "--workers", 1).code == 0


def test_a_cls_member_that_is_no_text_is_left_out_with_a_note(tmp_path: Path) -> None:
    labels, _, notes = indexed(labelled_tar(tmp_path, [{"cls": b"\x80\x04K\x03."}, {"cls": b"3"}]))
    assert labels == {}
    assert "left out of the labels: class (neither integers nor words)" in notes


def test_a_label_that_some_samples_lack_is_left_out_with_a_note(tmp_path: Path) -> None:
    labels, _, notes = indexed(labelled_tar(tmp_path, [{"cls": b"1"}, {}, *as_json({"age": 3})]))
    assert labels == {}
    assert "age (not in every sample), class (not in every sample)" in notes


def test_the_outer_value_of_a_json_goes_before_a_nested_one(tmp_path: Path) -> None:
    labels, _, _ = indexed(
        labelled_tar(
            tmp_path,
            as_json({"label": 1, "meta": {"label": 7, "age": 30}}, {"meta": {"label": 9, "age": 31}, "label": 2}),
        )
    )
    assert labels == {"label": [1, 2], "age": [30, 31]}


def test_an_outer_value_that_is_empty_does_not_hide_a_nested_one(tmp_path: Path) -> None:
    labels, _, _ = indexed(labelled_tar(tmp_path, as_json(*({"label": None, "meta": {"label": i}} for i in (3, 4)))))
    assert labels == {"label": [3, 4]}


def test_words_in_a_json_are_classes_where_samples_share_them(tmp_path: Path) -> None:
    contents = [
        {
            "breed": ("pug", "collie")[i % 2], "good": i > 2, "weight": 3.0 + i, "score": 0.5, "tags": ["a"],
            "caption": f"dog {i}", "sha": 2**70, "label": f"L{i}",
        }
        for i in range(6)
    ]  # fmt: skip
    labels, classes, notes = indexed(labelled_tar(tmp_path, as_json(*contents)))
    assert labels == {
        "breed": [1, 0] * 3,
        "good": [0, 0, 0, 1, 1, 1],
        "label": [0, 1, 2, 3, 4, 5],
        "weight": [3, 4, 5, 6, 7, 8],
    }
    assert classes["breed"] == ("collie", "pug")
    assert classes["good"] == ("false", "true")
    assert classes["weight"] is None
    assert "caption (a text of its own for most samples)" in notes
    assert all(f"{name} (neither integers nor words)" in notes for name in ("score", "sha", "tags"))


def test_a_set_that_grows_keeps_the_numbers_of_its_classes(tmp_path: Path) -> None:
    root = labelled_tar(tmp_path, [{"cls": b"cat"}, {"cls": b"dog"}])
    assert indexed(root)[0] == {"class": [0, 1]}
    before = hashes(root)
    indexed(root)
    assert hashes(root) == before
    labelled_tar(root, [{"cls": b"ant"}, {"cls": b"dog"}], "y.tar", 2)
    labels, tables, _ = indexed(root)
    assert labels == {"class": [0, 1, 2, 1]}
    assert tables == {"class": ("cat", "dog", "ant")}


def test_a_set_that_an_older_version_indexed_gets_no_other_labels(tmp_path: Path) -> None:
    """Runs go by the hash of the manifest: it changes with the tars alone."""
    root = labelled_tar(tmp_path, [{"cls": b"1", **as_json({"kind": "a"})[0]}] * 4)
    indexed(root)
    stored = manifest.load(root)
    only = stored.model_copy(update={"labels": stored.labels[:1], "notes": ()})
    (root / "manifest.json").write_bytes(manifest.to_bytes(only))
    assert list(indexed(root)[0]) == ["class"]
    assert manifest.load(root).notes == ()


def test_a_set_of_ours_whose_manifest_is_lost_keeps_its_labels(tmp_path: Path) -> None:
    root = make_dsprites(tmp_path / "set", 6)
    (root / "manifest.json").unlink()
    labels, _, _ = indexed(root)
    assert list(labels) == ["index"]
