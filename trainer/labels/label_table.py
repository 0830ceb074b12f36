"""The labels of a run, read from its set: labels and discrete factors that the shards carry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.arrays import Int64
from common.errors import UserError, joined
from common.paths import Location
from data_shards.read.loader import Level
from data_shards.sources.sprites.renderer import SHAPES

from .labels import NONE, Label, Labels, having

# Names of classes that the sets do not hold: theirs are the numbers of the published dSprites.
_NAMES = {("dsprites", "shape"): SHAPES}


class LabelTable(NamedTuple):
    """Labels, and the class of each sample of a set: rows int64 [N, L], see `Labels`."""

    labels: Labels
    rows: Tensor

    def y(self, samples: Tensor) -> Tensor:
        """Return the label vectors of sample ids int64 [b]: float32 [b, dim]."""
        return self.labels.y(self.rows[samples])

    def as_many_zeros(self) -> LabelTable:
        """Return the same labels with other rows, which are new tensors."""
        return self._replace(rows=torch.zeros(tuple(self.rows.shape), dtype=torch.int64))

    def samples_of(self, chosen: dict[int, int], typed: str) -> Tensor:
        """Return the ids of the samples that have the classes {place of a label: class}, ascending: int64 [M].

        typed: option and value, for the UserError where there is none.
        """
        found = having(self.rows, chosen).nonzero()[:, 0]
        if not len(found):
            raise UserError(f"{typed}: no image of the set has {self.labels.text(chosen)}; name other classes")
        return found

    def without_a_class(self) -> dict[str, int]:
        """Return how many samples have no class, by the name of the label, where there are any."""
        counts = {label.name: int((self.rows[:, i] == NONE).sum()) for i, label in enumerate(self.labels.labels)}
        return {name: count for name, count in counts.items() if count}


def read(level: Level, names: Sequence[str], key: str, folder: Location) -> LabelTable:
    """Read labels and discrete factors of a set by their names.

    level: any of the set; key: of the setting or option that names them; folder: of the set, for messages. Raises a
    UserError with all that cannot be a label of these images.
    """
    problems, columns = [], []
    for name in names:
        try:
            columns.append(_column(level, name, key, folder))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise joined("labels", problems) if len(problems) > 1 else UserError(problems[0])
    labels, rows = zip(*columns, strict=True)
    return LabelTable(Labels(labels), torch.from_numpy(np.stack(rows, 1)))


def read_classes(level: Level, text: str, option: str, folder: Location) -> tuple[str, Tensor]:
    """Read classes of any label of a set as a user types them, LABEL=CLASS,...: (the text, ids of the samples).

    option: that they were typed after; the rest as of `read`.
    """
    names = [name for name in available(level) if re.search(rf"(?:^|,)\s*{re.escape(name)}\s*=", text)]
    if not names:
        raise UserError(f"{option}: {text}: a class of which label? write LABEL=CLASS; {_choose(level)}")
    table = read(level, names, option, folder)
    chosen = table.labels.chosen(text, option)
    return table.labels.text(chosen), table.samples_of(chosen, f"{option}: {text}")


def available(level: Level) -> list[str]:
    """Return the names of all labels and factors of a set that can be used."""
    stored = level.manifest
    discrete = [factor.name for factor in stored.factors if factor.range is None]
    return [*(label.name for label in stored.labels if label.name != "index"), *discrete]


def _column(level: Level, name: str, key: str, folder: Location) -> tuple[Label, Int64]:
    """Return a label, and the class of every sample [N]."""
    stored = level.manifest
    for factor in stored.factors:
        if factor.name != name:
            continue
        if factor.range is not None:
            raise UserError(f"{key}: {name} is continuous in {folder}, and has no classes; {_choose(level)}")
        assert level.factors is not None
        column = level.factors[:, [f.name for f in stored.factors].index(name)]
        numbers = tuple(map(str, range(factor.size)))
        return Label(name, factor.values or _NAMES.get((stored.data_set, name)) or numbers), column
    for label in stored.labels:
        if label.name == name:
            return _of_label(level.labels[name], name, label.classes, key, folder, level)
    raise UserError(f"{key}: {folder} has no label or factor {name}; {_choose(level)}")


def _of_label(
    values: Int64, name: str, classes: tuple[str, ...] | None, key: str, folder: Location, level: Level
) -> tuple[Label, Int64]:
    """Return a label of a set.

    Without names of classes, each of its values is one; but -1 beside two or more from 0 on is none, as with names.
    """
    if classes is None:
        there = np.unique(values)
        without = len(there) > 2 and there[0] == NONE and there[1] >= 0
        there = there[1:] if without else there
        values = np.where(without & (values == NONE), NONE, np.searchsorted(there, values))
        classes = tuple(map(str, there.tolist()))
    if len(classes) < 2:
        raise UserError(f"{key}: {name} has one class in {folder}, which says nothing; {_choose(level)}")
    if len(classes) > len(values) // 2:
        raise UserError(
            f"{key}: {name} has {len(classes):,} values for {len(values):,} images of {folder}: it is a number of the "
            f"image, and no class; {_choose(level)}"
        )
    return Label(name, classes), values.astype(np.int64)


def _choose(level: Level) -> str:
    names = available(level)
    return f"choose from {', '.join(names)}" if names else "the set has none: make it with labels, or set labels=null"
