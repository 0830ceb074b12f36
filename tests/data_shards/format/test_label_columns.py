"""Which values are labels."""

from __future__ import annotations

from typing import Any

import pytest

from data_shards.format import label_columns
from data_shards.format.label_columns import LabelColumns, Numbering, as_integer, as_word, from_text
from data_shards.format.manifest import Label


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("01", 1), (" -7\n", -7), ("+3", 3), ("1.0", "1.0"), ("1_000", "1_000"), ("\u0664", "\u0664"),
        ("", ""), ("a b", "a b"), ("9" * 25, "9" * 25),
    ],
)  # fmt: skip
def test_a_text_is_an_integer_only_where_it_is_written_as_one(text: str, value: Any) -> None:
    assert from_text(text) == value


@pytest.mark.parametrize(
    ("value", "integer", "word"),
    [
        (3, 3, "3"), (3.0, 3, "3"), (2**63, None, None), (-(2**63), -(2**63), str(-(2**63))), (0.5, None, None),
        (float("nan"), None, None), (float("inf"), None, None), (True, None, "true"), ("7", None, "7"),
        ("", None, None), ("x" * 201, None, None), (None, None, None), ([1], None, None), (b"a", None, None),
    ],
)  # fmt: skip
def test_integers_and_words(value: Any, integer: int | None, word: str | None) -> None:
    assert as_integer(value) == integer
    assert type(as_integer(value)) in (int, type(None))
    assert as_word(value) == word


def survey(*samples: dict[str, Any]) -> LabelColumns:
    columns = LabelColumns()
    for sample in samples:
        columns.add(sample)
    return columns


def test_numbers_of_classes_stay_when_new_ones_come() -> None:
    columns = survey({"class": "cat"}, {"class": "ant"}, {"class": 7})
    older = {"class": Label(name="class", classes=("zebra", "cat"))}
    labels = columns.labels(older)
    assert labels == [Label(name="class", classes=("zebra", "cat", "7", "ant"))]
    assert dict(Numbering(labels)({"class": 7, "x": 1})) == {"class": 2}
    assert dict(Numbering(labels)({"class": "dog"})) == {}


def test_a_table_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_columns, "MOST_CLASSES", 3)
    assert survey(*({"class": f"c{i}"} for i in range(3))).labels()
    many = survey(*({"class": f"c{i}"} for i in range(4)))
    assert many.labels() == []
    assert many.notes() == ("left out of the labels: class (a text of its own for most samples)",)


def test_words_are_classes_where_two_samples_share_one_on_average() -> None:
    assert survey(*({"kind": f"k{i % 3}"} for i in range(6))).labels()
    assert survey(*({"kind": f"k{i % 4}"} for i in range(7))).labels() == []
