"""Which values that come with samples are labels: integers as they are, words as numbers of a table, others not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .manifest import Label

Value = Any  # of a JSON file, a table or a cls member
MOST_CLASSES = 10_000
_WORD = 200  # characters that a class name has at most
# Columns that hold classes also where few samples share one, as in a small set.
_OF_CLASSES = frozenset({"class", "label", "category", "target", "cls", "class_name", "label_name"})
_LIMIT = 2**63


@dataclass
class _Column:
    """What was seen of one name. words: different ones, until there are too many for a table."""

    samples: int = 0
    numbers: int = 0
    others: int = 0
    words: set[str] = field(default_factory=set)


class LabelColumns:
    """Looks at the values of every sample, and says which names are labels."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._samples = 0

    def add(self, values: Mapping[str, Value]) -> None:
        """Look at the values of one sample, by name."""
        self._samples += 1
        for name, value in values.items():
            column = self._columns.setdefault(name, _Column())
            column.samples += 1
            word = as_word(value)
            column.numbers += as_integer(value) is not None
            column.others += word is None
            if word is not None and len(column.words) <= MOST_CLASSES:
                column.words.add(word)

    def labels(self, older: Mapping[str, Label] | None = None) -> list[Label]:
        """Return the labels, sorted by name. older: labels of an earlier manifest, whose classes keep their numbers."""
        chosen = [self._label(name, (older or {}).get(name)) for name in sorted(self._columns) if name]
        return [label for label in chosen if label is not None]

    def notes(self) -> tuple[str, ...]:
        """Return a note on names that are no labels, if there are any."""
        taken = {label.name for label in self.labels()}
        rest = [f"{name} ({self._why_not(name)})" for name in sorted(self._columns) if name not in taken]
        return (f"left out of the labels: {', '.join(rest)}",) if rest else ()

    def _label(self, name: str, older: Label | None) -> Label | None:
        column = self._columns[name]
        if column.samples < self._samples or column.others:
            return None
        if column.numbers == column.samples:
            return Label(name=name)
        known = (older.classes if older is not None else None) or ()
        classes = (*known, *sorted(column.words - set(known)))
        return Label(name=name, classes=classes) if self._is_table(name) else None

    def _is_table(self, name: str) -> bool:
        """Whether the words of a column are classes, and not captions or names that differ from sample to sample."""
        different = len(self._columns[name].words)
        return different <= MOST_CLASSES and (name.lower() in _OF_CLASSES or 2 * different <= self._samples)

    def _why_not(self, name: str) -> str:
        column = self._columns[name]
        if column.others:
            return "neither integers nor words"
        return "not in every sample" if column.samples < self._samples else "a text of its own for most samples"


def as_integer(value: Value) -> int | None:
    """Return a value as an integer of 64 bits; None where it is none. 3.0 is one: tables write classes so."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    return value if type(value) is int and -_LIMIT <= value < _LIMIT else None


def as_word(value: Value) -> str | None:
    """Return a value as the name of a class; None for what names none, such as a list, 0.5 or a whole page."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if 0 < len(value) <= _WORD else None
    number = as_integer(value)
    return None if number is None else str(number)


def from_text(text: str) -> Value:
    """Return a value of a file that knows no types (cls, csv): an integer where it is one, also "01"; else the text."""
    digits = text.strip()
    sign = digits[1:] if digits[:1] in ("-", "+") else digits
    return int(digits) if sign.isascii() and sign.isdigit() and len(sign) < 20 else digits


class Numbering:
    """Turns values into the integers of labels."""

    def __init__(self, labels: Sequence[Label]) -> None:
        self._tables = {label.name: _table(label) for label in labels}

    def __call__(self, values: Mapping[str, Value]) -> Iterator[tuple[str, int]]:
        """Yield name and integer of each label that a sample has."""
        for name, table in self._tables.items():
            number = _number(values.get(name), table)
            if number is not None:
                yield name, number


def _table(label: Label) -> dict[str, int] | None:
    return None if label.classes is None else {word: number for number, word in enumerate(label.classes)}


def _number(value: Value, table: dict[str, int] | None) -> int | None:
    if table is None:
        return as_integer(value)
    word = as_word(value)
    return None if word is None else table.get(word)
