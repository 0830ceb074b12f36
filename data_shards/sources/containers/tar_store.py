"""Images in tars, those of webdataset and img2dataset or any others: a sample is an image and what has its key."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from common.errors import UserError
from data_shards.format import manifest
from data_shards.format.index import LABEL_MEMBERS, member_values
from data_shards.format.label_columns import Value
from data_shards.format.left_out import LeftOut, Reason
from data_shards.format.litter import litter_on_path
from data_shards.format.tars import Entry, Member, image_extension, members, read, split_name, typed_extension

from .image_store import Fault, Photo, Store, is_image_name

_SEVERAL = (
    "choose one with --image EXTENSION; where each is a photo of its own, unpack the tar and name the folder instead"
)
_MASK = "write the tar again with its image, or without it"


_Groups = dict[str, dict[str, Member]]  # members by key, then by extension


class _Sample(NamedTuple):
    """An image of a tar; the extensions of the other members of its key; what may be its labels, by name."""

    photo: Photo
    others: tuple[str, ...] = ()
    values: dict[str, Value] = {}  # noqa: RUF012


class _Contents(NamedTuple):
    """The samples of all tars, and the members that belong to no image."""

    samples: list[_Sample]
    left_out: list[tuple[str, Reason]]


@dataclass(frozen=True)
class TarStore(Store):
    """The images of tars, in the order of their paths and in each tar's own order.

    root: the folder of the tars, or the only tar. image: the extension of the images, where samples have several.
    beside: the other files of the folder. described_in: the folder of a manifest about the tars.

    A photo's place: tar, offset and length in bytes; its name: the sample's key. The tars are read once; worker
    processes get the paths alone.
    """

    root: Path
    paths: tuple[Path, ...]
    image: str | None = None
    beside: LeftOut = field(default_factory=LeftOut)
    described_in: Path | None = None

    def photos(self) -> list[Photo]:
        """Return all images. A damaged tar, a sample without a clear image or with a damaged json is one with a fault.

        Where a key is in several tars, the names have the tars before them.
        """
        photos = [sample.photo for sample in self._contents.samples]
        times = Counter(photo.name for photo in photos)
        return [photo if times[photo.name] == 1 else photo._replace(name=self._long_name(photo)) for photo in photos]

    def values(self) -> Iterator[dict[str, Value]]:
        """Yield what json, cls and similar members say about each image, in the order of `photos`."""
        return (sample.values for sample in self._contents.samples)

    def classes(self) -> dict[str, tuple[str, ...]]:
        """Return the names of classes by label, where the tars are of a set whose manifest has them."""
        try:
            labels = manifest.load(self.described_in).labels if self.described_in is not None else ()
        except UserError:
            return {}
        return {label.name: label.classes for label in labels if label.classes is not None}

    def members_beside(self) -> Counter[str]:
        """Return how many members of each extension belong to images and are neither images nor labels."""
        counts = Counter(extension for sample in self._contents.samples for extension in sample.others)
        return Counter({name: n for name, n in counts.items() if name != "json" and name not in LABEL_MEMBERS})

    def folder_of(self, photo: Photo) -> str:
        """Return the folder of an image: that of its tar and, inside it, that of the member."""
        return (Path(self._tar_name(photo.place[0])).parent / Path(photo.path).parent).as_posix()

    def left_out(self) -> LeftOut:
        """Return what is no image and belongs to none, in the tars and beside them."""
        return LeftOut.of([*self.beside.files, *self._contents.left_out])

    def read(self, photo: Photo) -> bytes:
        """Return the bytes of an image. Raises the fault that it has, or a Fault where they cannot be read whole."""
        if photo.fault is not None:
            raise Fault(*photo.fault)
        path = self.paths[photo.place[0]]
        try:
            state = path.stat()
            data = read(_opened(path, state.st_mtime_ns, state.st_size).number, _member(photo))
        except OSError as error:
            raise Fault(f"cannot be read ({error.strerror})", "copy the tar again") from None
        if len(data) != photo.place[2]:
            raise Fault("is cut short", "copy the tar again")
        return data

    def where(self, photo: Photo) -> str:
        """Return the tar and the member."""
        tar = self._tar_name(photo.place[0])
        return f"{tar}: member {photo.path}" if photo.path else tar

    @cached_property
    def _contents(self) -> _Contents:
        samples: list[_Sample] = []
        left_out: list[tuple[str, Reason]] = []
        read_tars = [_groups(path) for path in self.paths]
        if self.image is None and _are_photos([tar.groups for tar in read_tars]):
            read_tars = [tar._replace(groups=_each_alone(tar.groups)) for tar in read_tars]
        for number, tar in enumerate(read_tars):
            left_out += tar.rest
            if tar.fault is not None:
                samples.append(_Sample(Photo(self.paths[number].stem, "", (number, 0, 0), fault=tar.fault)))
            for key, parts in tar.groups.items():
                if _images(parts):
                    samples.append(self._sample(number, key, parts))
                else:
                    left_out += [(member.name, "no image") for member in parts.values()]
        return _Contents(_without_masks(samples), left_out)

    def _sample(self, number: int, key: str, parts: dict[str, Member]) -> _Sample:
        """The sample of these members, at least one of which is an image."""
        images = _images(parts)
        wanted = typed_extension(self.image) if self.image else None
        chosen = wanted or image_extension(parts) or (images[0] if len(images) == 1 else None)
        if chosen not in parts:
            which = f"none of them is {self.image}" if self.image else "nothing tells which one to take"
            fault = (f"belongs to a sample with the images {', '.join(images)}, and {which}", _SEVERAL)
            return _Sample(Photo(key, parts[images[0]].name, (number, 0, 0), fault=fault))
        member = parts.pop(chosen)
        photo = Photo(key, member.name, (number, member.offset, member.length))
        try:
            values = member_values(self.paths[number], [Entry(key, member, parts)])[0].labels if parts else {}
        except UserError as error:
            return _Sample(photo._replace(fault=_fault(error, self.paths[number])))
        return _Sample(photo, tuple(parts), values)

    def _tar_name(self, number: int) -> str:
        path = self.paths[number]
        return path.name if path == self.root else path.relative_to(self.root).as_posix()

    def _long_name(self, photo: Photo) -> str:
        return f"{Path(self._tar_name(photo.place[0])).with_suffix('')}/{photo.name}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_contents"}


class _Tar(NamedTuple):
    """What a tar holds: the members of each key by extension, those that belong to none, and why it is unusable."""

    groups: _Groups
    rest: list[tuple[str, Reason]]
    fault: tuple[str, str] | None = None


def _groups(path: Path) -> _Tar:
    """Read the table of contents of a tar.

    The members of a sample need not stand one after the other here, because images are read by position. Of two members
    of one name the last counts, as in any tar.
    """
    groups: _Groups = {}
    rest: list[tuple[str, Reason]] = []
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UserError(f"{path}: is no file; remove it")
        found = members(path)
    except (UserError, OSError) as error:
        return _Tar({}, [], _fault(error, path))
    for member in found:
        key, extension = split_name(member.name)
        why = litter_on_path(member.name) or (None if key else "no image")
        if why is not None:
            rest.append((member.name, why))
        else:
            groups.setdefault(key, {})[extension] = member
    return _Tar(groups, rest)


def _are_photos(tars: Sequence[_Groups]) -> bool:
    """Return whether tars hold plain photos with dots in their names, such as IMG.0001.jpg and IMG.0002.jpg.

    By the rule of samples they would be many images of one key. Samples with several images have other names: the few
    extensions (left.png, right.png) come again with every key.
    """
    samples = [parts for groups in tars for parts in groups.values()]
    extensions = {extension for parts in samples for extension in parts}
    unclear = any(len(parts) > 1 and image_extension(parts) is None for parts in samples)
    return unclear and len(extensions) > len(samples) and all(is_image_name(f"x.{name}") for name in extensions)


def _each_alone(groups: _Groups) -> _Groups:
    """The same members, each a sample of its own, named by its path without the extension behind the last dot."""
    found = [member for parts in groups.values() for member in parts.values()]
    split = [(member, PurePosixPath(member.name)) for member in sorted(found, key=lambda member: member.offset)]
    alone: _Groups = {}
    for member, path in split:
        alone.setdefault(str(path.with_suffix("")), {})[path.suffix[1:].lower()] = member
    return alone


def _images(parts: dict[str, Member]) -> list[str]:
    """The extensions among these that are images."""
    return [extension for extension in parts if is_image_name(f"x.{extension}")]


def _without_masks(samples: list[_Sample]) -> list[_Sample]:
    """The samples, with a fault where the image is of a kind that others have beside theirs: its image is missing."""
    beside = {extension for sample in samples for extension in sample.others}
    checked = []
    for sample in samples:
        extension = split_name(sample.photo.path)[1]
        if sample.photo.fault is None and extension in beside:
            rule = f"is the only image of its sample, and other samples have a {extension} beside their image"
            sample = _Sample(sample.photo._replace(fault=(rule, _MASK)))
        checked.append(sample)
    return checked


def _fault(error: UserError | OSError, path: Path) -> tuple[str, str]:
    """Rule and remedy of an error about a tar or a member of it."""
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})", "correct its permissions or the disk, or remove it"
    rule, _, remedy = str(error).removeprefix(f"{path}: ").rpartition("; ")
    return rule, remedy


def _member(photo: Photo) -> Member:
    return Member(photo.path, photo.place[1], photo.place[2])


class _Handle:
    """An open file, which is closed with the last use of it."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.number)


@functools.lru_cache(maxsize=1)
def _opened(path: Path, *state: int) -> _Handle:
    """One open tar for all images that a process reads of it. state: a changed tar is opened anew."""
    return _Handle(path)
