"""The known factors of drawn faces: parts, colours and the pose of the head; and the values of face i."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch

from common.arrays import Float64, Int64
from common.errors import UserError
from common.random_numbers import Purpose, uniform
from data_shards.format.manifest import Factor

BINS = 20  # classes of a continuous factor: equal parts of its range
ABSENT = "none"  # the value of a part that a face does not have
Value = str | float


@dataclass(frozen=True)
class Part:
    """A discrete factor: which variant of a component is drawn, or a class of colours.

    component: its name in the style; variants: in the order of the classes, ABSENT where it is not drawn.
    """

    name: str
    component: str
    variants: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of classes."""
        return len(self.variants)

    @property
    def described(self) -> Factor:
        """The factor as the manifest describes it."""
        return Factor(name=self.name, size=self.size, values=self.variants)

    def options(self, value: Value) -> dict[str, Any]:
        """DiceBear's options that draw a variant."""
        present = {f"{self.component}Probability": 0 if value == ABSENT else 100}
        return present if value == ABSENT else present | {f"{self.component}Variant": [value]}


@dataclass(frozen=True)
class ColourClass(Part):
    """A discrete factor: which of its own colours a style uses. variants: "#rrggbb"."""

    def options(self, value: Value) -> dict[str, Any]:
        """DiceBear's options that use a colour."""
        return {f"{self.component}Color": [value]}


@dataclass(frozen=True)
class Continuous:
    """A factor with values from low to high.

    option: DiceBear's, which takes the value; circular: the ends of the range are the same value.
    """

    name: str
    option: str
    low: float
    high: float
    circular: bool = False

    @property
    def size(self) -> int:
        """Number of classes: the bins of its range."""
        return BINS

    @property
    def described(self) -> Factor:
        """The factor as the manifest describes it."""
        return Factor(name=self.name, size=BINS, range=(self.low, self.high), circular=self.circular)

    def options(self, value: Value) -> dict[str, Any]:
        """DiceBear's option that sets the value."""
        return {self.option: value}


@dataclass(frozen=True)
class Palette(Continuous):
    """A colour by its position in [0, 1] between the first and the last of `stops`, "#rrggbb", linear in RGB."""

    stops: tuple[str, ...] = ()

    def options(self, value: Value) -> dict[str, Any]:
        """DiceBear's option that sets the colour."""
        stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in self.stops], np.float64)
        at = np.linspace(0, 1, len(stops))
        return {self.option: [_hex([np.interp(float(value), at, channel) / 255 for channel in stops.T])]}


@dataclass(frozen=True)
class Hue(Continuous):
    """A colour by its hue in [0, 1), which is circular. saturation, brightness: of HSV, in [0, 1]."""

    saturation: float = 1.0
    brightness: float = 1.0

    def options(self, value: Value) -> dict[str, Any]:
        """DiceBear's option that sets the colour."""
        return {self.option: [_hex(colorsys.hsv_to_rgb(float(value), self.saturation, self.brightness))]}


FaceFactor = Part | Continuous


def _hex(rgb: Sequence[float]) -> str:
    """Return "#rrggbb" of a colour in [0, 1]."""
    return "#" + "".join(f"{int(channel * 255 + 0.5):02x}" for channel in rgb)


def draw_values(factors: Sequence[FaceFactor], index: Int64) -> Float64:
    """Draw the factors of faces by their numbers [N]: [N, F], a class number for a part, else a value in its range.

    Uniform and independent. Face i has the same values in every set of the same factors.
    """
    shares = uniform(0, Purpose.FACES, torch.from_numpy(np.asarray(index, np.int64)), (len(factors),)).double().numpy()
    return np.stack([_from_share(factor, shares[:, f]) for f, factor in enumerate(factors)], 1)


def _from_share(factor: FaceFactor, share: Float64) -> Float64:
    """Values [N] of a factor out of shares of its range in [0, 1)."""
    if isinstance(factor, Part):
        return np.floor(share * factor.size)
    return factor.low + share * (factor.high - factor.low)


def classes_of(factors: Sequence[FaceFactor], values: Float64) -> Int64:
    """Return the classes [N, F] of values [N, F]: the bin of a continuous one."""
    return np.stack([_classes(factor, values[:, f]) for f, factor in enumerate(factors)], 1)


def _classes(factor: FaceFactor, values: Float64) -> Int64:
    if isinstance(factor, Part):
        return values.astype(np.int64)
    share = (values - factor.low) / (factor.high - factor.low)
    return np.minimum((share * BINS).astype(np.int64), BINS - 1)


def centres(factors: Sequence[FaceFactor], classes: Int64) -> Float64:
    """Return values [N, F] for classes [N, F]: the middle of the bin of a continuous factor."""
    columns = [
        classes[:, f].astype(np.float64)
        if isinstance(factor, Part)
        else factor.low + (classes[:, f] + 0.5) / BINS * (factor.high - factor.low)
        for f, factor in enumerate(factors)
    ]
    return np.stack(columns, 1)


def by_name(factors: Sequence[FaceFactor], row: Float64) -> dict[str, Value]:
    """Return the values [F] of one face by name: the variant of a part, the number of a continuous factor."""
    return {
        factor.name: factor.variants[int(value)] if isinstance(factor, Part) else float(value)
        for factor, value in zip(factors, row, strict=True)
    }


def check_values(factors: Sequence[FaceFactor], values: Mapping[str, Value]) -> None:
    """Raise UserError where a factor is missing, unknown, or has a value that it cannot have."""
    known = {factor.name: factor for factor in factors}
    for name in values:
        if name not in known:
            raise UserError(f"factor {name}: not known; choose from {', '.join(known)}")
    missing = [name for name in known if name not in values]
    if missing:
        raise UserError(f"factors {', '.join(missing)}: not given; a face needs each")
    for name, value in values.items():
        _check_value(known[name], value)


def _check_value(factor: FaceFactor, value: Value) -> None:
    if isinstance(factor, Part):
        if value not in factor.variants:
            raise UserError(f"factor {factor.name} is {value!r}; choose from {', '.join(factor.variants)}")
        return
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and factor.low <= float(value) <= factor.high):
        raise UserError(f"factor {factor.name} is {value!r}; choose a number from {factor.low:g} to {factor.high:g}")
