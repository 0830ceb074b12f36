"""The interface between a data set and `make`: samples, offenders, sources."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, Self

from common.arrays import Int64, UInt8
from data_shards.format.manifest import Factor, Label


@dataclass(frozen=True)
class Sample:
    """One image at the set's largest level: uint8 [R, R, C]; label values and factor classes by name.

    values: of continuous factors, by name. own: where `image` is an enlargement, the image at the largest power of two
    that it fills, uint8 [r, r, C], which lower levels are made of.
    """

    name: str
    image: UInt8
    labels: dict[str, int]
    factors: dict[str, int]
    values: dict[str, float] = field(default_factory=dict)
    own: UInt8 | None = None


class Offender(NamedTuple):
    """A source file that cannot be used, the rule that it breaks and what to do about it."""

    file: str
    rule: str
    remedy: str


class Scanned(NamedTuple):
    """What the scan found out about one source file.

    offender: why it cannot be used, None where it can. remarks: what is done to it that its user should know; the
    files with the same remark are counted in a note.
    """

    offender: Offender | None = None
    remarks: tuple[str, ...] = ()


class Source(Protocol):
    """Images in a fixed (sorted) order. `part` must pickle: it is read in a worker process."""

    @property
    def data_set(self) -> str:
        """The data set's name, which the manifest holds."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the images, 1 or 3."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The samples' names, in order."""
        ...

    @property
    def recipe(self) -> dict[str, Any]:
        """JSON values that, with the listing, decide every pixel."""
        ...

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The known factors of variation, if any."""
        ...

    @property
    def labels(self) -> tuple[Label, ...]:
        """The integers that every sample has beside its factors."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What users should know about the set; `make` prints it, the manifest holds it."""
        ...

    @property
    def listing_sha256(self) -> str:
        """Hash of names and contents of all source files, skipped ones included."""
        ...

    def part(self, start: int, stop: int) -> Iterable[Sample]:
        """Return samples start to stop - 1."""
        ...

    def scan(self, workers: int, preload: Sequence[str] = ()) -> Iterator[Scanned]:
        """Look at every file once. Yields one result per file.

        preload: modules that worker processes will need after the scan; see `common.process_pool.ordered_map`.
        """
        ...

    def without(self, offenders: Sequence[Offender]) -> Source:
        """Return the same source without these files."""
        ...

    def findings(self, labels: Mapping[str, Int64]) -> tuple[str, ...]:
        """Return notes that follow from the written samples. labels: int64 [N] by name."""
        ...


class NumberedImages:
    """Base of sources whose images have their number in the data set as their only label, and are all usable.

    They are drawn, or rows of one file of arrays: none can be unusable by itself.
    """

    labels: ClassVar[tuple[Label, ...]] = (Label(name="index"),)

    @property
    def notes(self) -> tuple[str, ...]:
        """No notes."""
        return ()

    def scan(self, workers: int, preload: Sequence[str] = ()) -> Iterator[Scanned]:
        """Yield nothing: there is no file to look at."""
        return iter(())

    def without(self, offenders: Sequence[Offender]) -> Self:
        """Return the source itself: there are no offenders."""
        return self

    def findings(self, labels: Mapping[str, Int64]) -> tuple[str, ...]:
        """Return no notes."""
        return ()


def listing_hash(lines: Iterable[str]) -> str:
    """Return the sha256 over lines, each with its newline."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
