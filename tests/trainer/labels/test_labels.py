"""Label vectors and the classes that a user types, by hand; and the labels of a set, as its own tables have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError
from data_shards.format import manifest
from data_shards.read.loader import Level, open_dataset
from tests.support.data_sets import photos, run
from trainer.labels import label_table
from trainer.labels.labels import Label, Labels, having

LABELS = Labels((Label("hair", ("short", "long")), Label("beard", ("none", "full", "2"))))
ROWS = torch.tensor([[0, 0], [1, 2], [-1, 1], [1, -1]])


def test_y_is_the_one_hot_vectors_side_by_side_and_zeros_for_none() -> None:
    expected = [[1, 0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 1, 0], [0, 1, 0, 0, 0]]
    assert LABELS.y(ROWS).tolist() == expected
    assert LABELS.dim == 5
    assert Labels.from_json(LABELS.to_json()) == LABELS


def test_classes_are_named_or_numbered() -> None:
    assert LABELS.chosen("hair=long", "--class") == {0: 1}
    assert LABELS.chosen(" beard = full , hair=0", "--class") == {1: 1, 0: 0}
    assert LABELS.chosen("beard=2", "--class") == {1: 2}  # by its name, which is a number
    assert Labels((LABELS.labels[0],)).chosen("long", "--class") == {0: 1}
    assert LABELS.text({1: 1, 0: 0}) == LABELS.text({0: 0, 1: 1}) == "beard=full,hair=short"
    assert having(ROWS, {0: 1}).tolist() == [False, True, False, True]
    assert having(ROWS, {0: 1, 1: 2}).tolist() == [False, True, False, False]
    assert LABELS.each() == [{0: 0}, {0: 1}, {1: 0}, {1: 1}, {1: 2}]


def test_names_may_hold_commas_and_equal_signs_and_numbers_are_names_first() -> None:
    fish = Labels((Label("class", ("tench, Tinca tinca", "tench", "a=b")), Label("digit", ("1", "2", "9"))))
    for place, k in ((0, 0), (0, 1), (0, 2), (1, 2)):
        assert fish.chosen(fish.text({place: k}), "--class") == {place: k}
    both = fish.chosen("class=tench, Tinca tinca,digit=9", "--class")
    assert both == {0: 0, 1: 2}
    assert Labels(fish.labels[:1]).chosen("tench, Tinca tinca", "--class") == {0: 0}
    assert fish.chosen("class=2", "--class") == {0: 2}
    with pytest.raises(UserError, match="'0' is no class of digit; choose 1, 2, 9"):  # not the first one, which is 1
        fish.chosen("digit=0", "--class")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("long", "--class: long: a class of which label? write such as hair=short"),
        ("eyes=blue", "--class: eyes=blue: 'eyes' is none of its labels; it has hair, beard"),
        ("hair=blue", "--class: hair=blue: 'blue' is no class of hair; choose short, long"),
        ("hair=2", "--class: hair=2: '2' is no class of hair; choose short, long"),
        ("hair=-1", "'-1' is no class of hair"),
        ("hair=long,hair=short", "has hair twice"),
        ("", "a class of which label?"),
    ],
)
def test_what_is_no_class_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        LABELS.chosen(text, "--class")
    assert says in str(error.value)


def test_of_many_classes_the_first_are_named() -> None:
    with pytest.raises(UserError, match=r"choose 0, 1, 2, .*, 11, \.\.\. \(40 in all\)"):
        Labels((Label("angle", tuple(map(str, range(40)))),)).chosen("x", "--class")


def test_factors_of_sprites_are_labels_and_their_shapes_have_names(sprites: Path) -> None:
    level = open_dataset(sprites, 64)
    table = label_table.read(level, ["scale", "shape"], "labels", sprites)
    assert level.factors is not None
    assert np.array_equal(table.rows.numpy(), level.factors[:, [1, 0]])
    assert table.labels.labels[1] == Label("shape", ("square", "ellipse", "heart"))
    assert table.labels.labels[0] == Label("scale", tuple("012345"))
    wanted = torch.tensor([5, 250])
    assert torch.equal(table.y(wanted)[:, 6:].argmax(1), torch.from_numpy(level.factors[[5, 250], 0]))
    text, samples = label_table.read_classes(level, "shape=heart,scale=3", "--class", sprites)
    assert text == "scale=3,shape=heart"
    assert samples.tolist() == np.flatnonzero((level.factors[:, 0] == 2) & (level.factors[:, 1] == 3)).tolist()


def test_images_without_a_class_have_a_vector_of_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the test images of Cars, whose classes are not published."""
    assert run("make", "folder", photos(tmp_path / "src"), "--out", tmp_path / "set", "--resolutions", "64").code == 0
    level = open_dataset(tmp_path / "set", 64)
    (stored,) = [label for label in manifest.load(tmp_path / "set").labels if label.classes]
    values = level.labels[stored.name].copy()
    values[2] = -1
    monkeypatch.setattr(Level, "labels", {stored.name: values})
    table = label_table.read(level, [stored.name], "labels", tmp_path)
    assert table.without_a_class() == {stored.name: 1}
    assert table.y(torch.arange(6)).sum(1).tolist() == [1, 1, 0, 1, 1, 1]
    assert stored.classes is not None
    assert table.labels.labels == (Label(stored.name, stored.classes),)
    assert set(stored.classes) == {"cats", "dogs"}
    assert table.y(torch.tensor([0])).argmax(1) == values[0]


def test_values_without_names_are_classes_by_their_number(monkeypatch: pytest.MonkeyPatch, sprites: Path) -> None:
    level = open_dataset(sprites, 64)
    monkeypatch.setattr(Level, "labels", {"index": np.array([7, 3, 7, 100] * 64)})
    table = label_table.read(level, ["index"], "labels", sprites)
    assert table.labels.labels == (Label("index", ("3", "7", "100")),)
    assert table.rows[:4, 0].tolist() == [1, 0, 1, 2]
    monkeypatch.setattr(Level, "labels", {"index": np.array([-1, 3, 3, 5] * 64)})  # as of Cars without names
    table = label_table.read(level, ["index"], "labels", sprites)
    assert table.labels.labels == (Label("index", ("3", "5")),)
    assert table.rows[:4, 0].tolist() == [-1, 0, 0, 1]
    monkeypatch.setattr(Level, "labels", {"index": np.array([-1, 1] * 128)})  # as attributes are often written
    assert label_table.read(level, ["index"], "labels", sprites).rows[:2, 0].tolist() == [0, 1]


def test_all_that_cannot_be_a_label_is_refused_at_once(sprites: Path, tmp_path: Path) -> None:
    made = run("make", "faces", "--out", tmp_path / "faces", "--count", 4, "--resolutions", "64")
    assert made.code == 0, made.err
    faces = open_dataset(tmp_path / "faces", 64)
    with pytest.raises(UserError) as error:
        label_table.read(faces, ["skin", "hats", "hair"], "labels", tmp_path / "faces")
    assert error.value.problems == (
        f"labels: skin is continuous in {tmp_path / 'faces'}, and has no classes; choose from hair, rear_hair, eyes, "
        "eyebrows, mouth, beard, clothes",
        f"labels: {tmp_path / 'faces'} has no label or factor hats; choose from hair, rear_hair, eyes, eyebrows, "
        "mouth, beard, clothes",
    )
    with pytest.raises(UserError, match=r"index has 256 values for 256 images .* choose from shape, scale"):
        label_table.read(open_dataset(sprites, 64), ["index"], "labels", sprites)
    with pytest.raises(UserError, match="--class: heart: a class of which label"):
        label_table.read_classes(open_dataset(sprites, 64), "heart", "--class", sprites)
    with pytest.raises(UserError, match="--class: shape=heart,scale=9: '9' is no class of scale"):
        label_table.read_classes(open_dataset(sprites, 64), "shape=heart,scale=9", "--class", sprites)
