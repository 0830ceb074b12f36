"""The source that all data sets of image files share: a store, crop and resize, and labels for each image."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from common.arrays import Int64
from common.process_pool import ordered_map
from data_shards.format.manifest import Factor, Label
from data_shards.sources.base import Offender, Sample, Scanned, listing_hash
from data_shards.sources.containers.image_store import Fault, Photo, Store

from .crop_and_resize import IDENTICAL, CropAndResize
from .rejection_rules import inspect, rgb

_AT_ONCE = 32  # images that a worker process looks at before it returns


@dataclass(frozen=True)
class Part:
    """Images of one shard, as an iterable of samples. labels: names of the photos' label values."""

    store: Store
    transform: CropAndResize
    photos: tuple[Photo, ...]
    labels: tuple[str, ...]

    def __iter__(self) -> Iterator[Sample]:
        for photo in self.photos:
            image = rgb(self.store, photo)
            labels = dict(zip(self.labels, photo.labels, strict=True)) | self.transform.measured(image, photo.name)
            pixels, own = self.transform.pixels(image, photo.box), self.transform.own(image, photo.box)
            yield Sample(photo.name, pixels, labels, {}, own=own)


@dataclass(frozen=True)
class Photos:
    """Images of a store in a fixed order, as a source.

    own_labels: what the photos' label values are. measured_labels: what `transform` measures of the pixels.
    """

    data_set: str
    store: Store
    photos: tuple[Photo, ...]
    transform: CropAndResize
    recipe: dict[str, Any]
    listing_sha256: str
    own_labels: tuple[Label, ...] = ()
    measured_labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    channels: ClassVar[int] = 3
    factors: ClassVar[tuple[Factor, ...]] = ()

    @property
    def names(self) -> Sequence[str]:
        """The photos' names, in order."""
        return [photo.name for photo in self.photos]

    @property
    def labels(self) -> tuple[Label, ...]:
        """Labels that files or names gave, then measured ones."""
        return self.own_labels + self.measured_labels

    def part(self, start: int, stop: int) -> Part:
        """Return samples start to stop - 1."""
        return Part(self.store, self.transform, self.photos[start:stop], tuple(label.name for label in self.own_labels))

    def scan(self, workers: int, preload: Sequence[str] = ()) -> Iterator[Scanned]:
        """Decode every image once. Yields one result per image."""
        groups = (self.photos[i : i + _AT_ONCE] for i in range(0, len(self.photos), _AT_ONCE))
        inspect_all = functools.partial(_inspect_all, self.store, self.transform)
        for results in ordered_map(inspect_all, groups, workers, preload):
            yield from results

    def without(self, offenders: Sequence[Offender]) -> Photos:
        """Return the same source without these images."""
        bad = {offender.file for offender in offenders}
        return replace(self, photos=tuple(p for p in self.photos if self.store.where(p) not in bad))

    def findings(self, labels: Mapping[str, Int64]) -> tuple[str, ...]:
        """Return notes on how many images are pixel-identical to published ones, and on files that are not taken."""
        return (*_identical(labels), *self.store.left_out().without(self.recipe.get("label_files", {})).notes())


def _identical(labels: Mapping[str, Int64]) -> tuple[str, ...]:
    """How many images are those of the image list, where that was measured."""
    if IDENTICAL not in labels:
        return ()
    identical = labels[IDENTICAL]
    return (f"{int(identical.sum()):,} of {len(identical):,} images are pixel-identical to ones of the image list",)


def _inspect_all(store: Store, transform: CropAndResize, photos: Sequence[Photo]) -> list[Scanned]:
    return [inspect(store, transform, photo) for photo in photos]


def photos_hash(store: Store, photos: Sequence[Photo]) -> str:
    """Return the hash of the listing, names and contents: the same for a folder and a zip of it."""
    return listing_hash(f"{photo.name}\t{_digest(store, photo)}" for photo in photos)


def _digest(store: Store, photo: Photo) -> str:
    try:
        return hashlib.sha256(store.read(photo)).hexdigest()
    except Fault:  # the scan reports what is wrong with it
        return "unreadable"
