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

        A class is named by its name or its number. Returns {place of the label: class}. option: that it was typed
        after, for messages. Raises a UserError where a label or class is unknown, or a label is named twice.
        """
        found: dict[int, int] = {}
        for part in text.split(","):
            name, given, value = part.strip().rpartition("=")
            place = self._place(name.strip(), bool(given), f"{option}: {text}")
            if place in found:
                raise UserError(f"{option}: {text}: has {self.labels[place].name} twice; name each label once")
            found[place] = _class_of(self.labels[place], value.strip(), f"{option}: {text}")
        return found

    def _place(self, name: str, given: bool, typed: str) -> int:
        names = [label.name for label in self.labels]
        if not given and len(names) == 1:
            return 0
        if not given:
            raise UserError(f"{typed}: a class of which label? write such as {names[0]}={self.labels[0].classes[0]}")
        if name not in names:
            raise UserError(f"{typed}: {name!r} is none of its labels; it has {', '.join(names)}")
        return names.index(name)

    def text(self, chosen: dict[int, int]) -> str:
        """Write classes as `chosen` reads them: shape=heart."""
        return ",".join(
            sorted(f"{self.labels[place].name}={self.labels[place].classes[k]}" for place, k in chosen.items())
        )

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


def _class_of(label: Label, value: str, typed: str) -> int:
    if value in label.classes:
        return label.classes.index(value)
    if value.isascii() and value.isdigit() and int(value) < len(label.classes):
        return int(value)
    raise UserError(f"{typed}: {value!r} is no class of {label.name}; choose {_listed(label.classes)}")


def _listed(classes: Sequence[str], most: int = 12) -> str:
    """Name classes for a reader, the first of many."""
    if len(classes) <= most:
        return ", ".join(classes)
    return f"{', '.join(classes[:most])}, ... ({len(classes):,} in all)"
