"""Labels that G and D are told, as the vector y. This file imports no data: an export has it too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError

NONE = -1  # in place of a class: the image has none of this label


@dataclass(frozen=True)
class Label:
    """A label: its name, and the names of its classes in the order of their numbers."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """The labels of a run, in the order of y.

    An image has a class of each, a number from 0, or NONE: rows int64 [b, L]. y is the one-hot vectors of the classes
    side by side, with zeros for NONE: [b, dim].
    """

    labels: tuple[Label, ...]

    @property
    def dim(self) -> int:
        """Size of y."""
        return sum(len(label.classes) for label in self.labels)

    def y(self, rows: Tensor) -> Tensor:
        """Return the label vectors of rows int64 [b, L]: float32 [b, dim]."""
        each = zip(rows.unbind(1), self.labels, strict=True)
        return torch.cat([F.one_hot(row + 1, len(label.classes) + 1)[:, 1:] for row, label in each], 1).float()

    def chosen(self, text: str, option: str) -> dict[int, int]:
        """Read classes as a user types them: shape=heart,scale=2, or heart where there is one label.

        A class is named by its name, which may hold commas, or by its number where no class of the label is called by
        one. Returns {place of the label: class}. option: that it was typed after, for messages. Raises a UserError
        where a label or class is unknown, or a label is named twice.
        """
        typed, parts, found = f"{option}: {text}", text.split(","), dict[int, int]()
        while parts:
            lengths = range(len(parts), 0, -1)  # the longest name first
            read = ((self._read(",".join(parts[:length]).strip()), length) for length in lengths)
            one, length = next((hit for hit in read if hit[0] is not None), (None, 1))
            if one is None:
                raise UserError(f"{typed}: {self._why_not(parts[0].strip())}")
            place, k = one
            if place in found:
                raise UserError(f"{typed}: has {self.labels[place].name} twice; name each label once")
            found[place], parts = k, parts[length:]
        return found

    def _read(self, part: str) -> tuple[int, int] | None:
        """Return (place of a label, class) of LABEL=CLASS, or of CLASS where there is one label; else None."""
        if len(self.labels) == 1 and (k := _number_of(self.labels[0], part)) is not None:
            return 0, k
        for place, label in enumerate(self.labels):
            name, equals, value = part[: len(label.name)], *_split(part[len(label.name) :])
            if name == label.name and equals and (k := _number_of(label, value)) is not None:
                return place, k
        return None

    def _why_not(self, part: str) -> str:
        name, given, value = (each.strip() for each in part.partition("="))
        names = [label.name for label in self.labels]
        if not given and len(names) == 1:
            name, value = names[0], name
        if not given and len(names) > 1:
            return f"a class of which label? write such as {names[0]}={self.labels[0].classes[0]}"
        if name not in names:
            return f"{name!r} is none of its labels; it has {', '.join(names)}"
        return f"{value!r} is no class of {name}; choose {_listed(self.labels[names.index(name)].classes)}"

    def text(self, chosen: dict[int, int]) -> str:
        """Write classes as `chosen` reads them: shape=heart."""
        return ",".join(
            sorted(f"{self.labels[place].name}={self.labels[place].classes[k]}" for place, k in chosen.items())
        )

    def described(self) -> str:
        """Return labels and classes for a reader."""
        return "; ".join(f"{label.name} ({_listed(label.classes)})" for label in self.labels)

    def each(self) -> list[dict[int, int]]:
        """List every class of every label."""
        return [{place: k} for place, label in enumerate(self.labels) for k in range(len(label.classes))]

    def to_json(self) -> list[dict[str, Any]]:
        """Return what export.json says of them."""
        return [{"name": label.name, "classes": list(label.classes)} for label in self.labels]

    @classmethod
    def from_json(cls, content: Sequence[dict[str, Any]]) -> Labels:
        """Read what `to_json` wrote."""
        return cls(tuple(Label(part["name"], tuple(part["classes"])) for part in content))


def having(rows: Tensor, chosen: dict[int, int]) -> Tensor:
    """Return which rows int64 [N, L] have the classes {place of a label: class}: bool [N]."""
    found = torch.ones(len(rows), dtype=torch.bool)
    for place, k in chosen.items():
        found &= rows[:, place] == k
    return found


def _split(rest: str) -> tuple[bool, str]:
    """Return (whether an equal sign comes first, what follows it) of what stands behind a label's name."""
    before, equals, value = rest.partition("=")
    return bool(equals) and not before.strip(), value.strip()


def _number_of(label: Label, value: str) -> int | None:
    """Return a class by its name, or by its number where no class is called by a number."""
    if value in label.classes:
        return label.classes.index(value)
    numbered = not any(name.isdigit() for name in label.classes)
    if numbered and value.isascii() and value.isdigit() and int(value) < len(label.classes):
        return int(value)
    return None


def _listed(classes: Sequence[str], most: int = 12) -> str:
    """Name classes for a reader, the first of many."""
    if len(classes) <= most:
        return ", ".join(classes)
    return f"{', '.join(classes[:most])}, ... ({len(classes):,} in all)"
