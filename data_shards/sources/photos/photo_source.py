"""The source that all data sets of image files share: a store, a recipe, and labels for each image."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from common.process_pool import ordered_map
from data_shards.format.manifest import Factor, Label
from data_shards.sources.base import Offender, Sample, listing_hash
from data_shards.sources.containers.image_store import Fault, Photo, Store

from .crop_and_resize import IDENTICAL, Recipe
from .rejection_rules import inspect, rgb

GREY = "grey images are stored as RGB"
_AT_ONCE = 32  # images that a worker process looks at before it answers


@dataclass(frozen=True)
class Part:
    """Images of one shard. labels: names of the photos' label values."""

    store: Store
    how: Recipe
    photos: tuple[Photo, ...]
    labels: tuple[str, ...]

    def __iter__(self) -> Iterator[Sample]:
        for photo in self.photos:
            image = rgb(self.store, photo)
            labels = dict(zip(self.labels, photo.labels, strict=True)) | self.how.measured(image, photo.name)
            yield Sample(photo.name, self.how.pixels(image, photo.box), labels, {})


@dataclass(frozen=True)
class Photos:
    """Images in a fixed order. own_labels: of each photo's label values, to which the recipe adds what it measures."""

    data_set: str
    store: Store
    photos: tuple[Photo, ...]
    how: Recipe
    recipe: dict[str, Any]
    listing_sha256: str
    own_labels: tuple[Label, ...] = ()
    measured_labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = (GREY,)
    channels: ClassVar[int] = 3
    factors: ClassVar[tuple[Factor, ...]] = ()

    @property
    def names(self) -> Sequence[str]:
        return [photo.name for photo in self.photos]

    @property
    def labels(self) -> tuple[Label, ...]:
        return self.own_labels + self.measured_labels

    def part(self, start: int, stop: int) -> Part:
        return Part(self.store, self.how, self.photos[start:stop], tuple(label.name for label in self.own_labels))

    def scan(self, workers: int) -> Iterator[Offender | None]:
        groups = (self.photos[i : i + _AT_ONCE] for i in range(0, len(self.photos), _AT_ONCE))
        for answers in ordered_map(functools.partial(_inspect_all, self.store, self.how), groups, workers):
            yield from answers

    def without(self, offenders: Sequence[Offender]) -> Photos:
        bad = {offender.file for offender in offenders}
        return replace(self, photos=tuple(p for p in self.photos if self.store.where(p) not in bad))

    def findings(self, labels: Mapping[str, NDArray[np.int64]]) -> tuple[str, ...]:
        if IDENTICAL not in labels:
            return ()
        found = labels[IDENTICAL]
        return (f"{int(found.sum()):,} of {len(found):,} images are pixel-identical to ones of the image list",)


def _inspect_all(store: Store, how: Recipe, photos: Sequence[Photo]) -> list[Offender | None]:
    return [inspect(store, how, photo) for photo in photos]


def photos_hash(store: Store, photos: Sequence[Photo]) -> str:
    """Hash of the listing: names and contents, the same for a folder and a zip of it."""
    return listing_hash(f"{photo.name}\t{_digest(store, photo)}" for photo in photos)


def _digest(store: Store, photo: Photo) -> str:
    try:
        return hashlib.sha256(store.read(photo)).hexdigest()
    except Fault:  # the scan says what is wrong with it
        return "unreadable"
