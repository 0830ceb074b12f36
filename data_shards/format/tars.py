"""Read the table of contents of a tar that may come from anywhere. Nothing is ever extracted."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from common.errors import UserError

from .left_out import LeftOut, Reason
from .litter import litter, litter_on_path

MAX_MEMBER = 64 * 2**20  # bytes
EXTENSIONS = ("png", "jpg", "jpeg", "webp")  # of images
_NAMES_OF_IMAGES = ("image", "img", "input", "photo", "picture", "rgb", "color", "colour", "original")
_END = b"\0" * 1024  # two zero blocks end every tar
_SHOWN = 8  # members of a sample that a message names
_LOOK_BEHIND = 2**20  # bytes: some programs fill a tar up to 1 MiB with zeros


class Member(NamedTuple):
    """The place of a file in its tar: offset and length in bytes."""

    name: str
    offset: int
    length: int


class Entry(NamedTuple):
    """One sample of a tar: its key, its image and its other members by extension."""

    key: str
    image: Member
    others: dict[str, Member]


class Contents(NamedTuple):
    """The samples of a tar, and the members that belong to none of them."""

    entries: list[Entry]
    left_out: LeftOut


def members(path: Path) -> list[Member]:
    """Return every regular file of a tar, in order.

    Raises UserError where the tar is damaged, or holds what a shard must not hold (links, absolute paths, large files).
    """
    files: list[Member] = []
    try:
        with open(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            end = _read_headers(path, tar, files)
    except tarfile.TarError as error:
        raise UserError(
            f"{path}: truncated or not a plain tar ({_place_after(files)}: {error}); copy it again"
        ) from None
    with open(path, "rb") as stream:
        stream.seek(end)
        rest = stream.read(_LOOK_BEHIND)
    if rest[:1024] != _END:
        raise UserError(f"{path}: truncated or damaged ({_place_after(files)}: no end of archive); copy it again")
    if rest.strip(b"\0"):
        raise UserError(
            f"{path}: goes on behind its end ({_place_after(files)}), as if tars were put one after the other; "
            "use these tars, or write them as one"
        )
    return files


def _read_headers(path: Path, tar: tarfile.TarFile, files: list[Member]) -> int:
    """Append every regular file of an open tar to `files`; returns where the last member ends, in bytes."""
    end = 0
    for info in tar:
        end = info.offset_data + (0 if info.isdir() else -(-info.size // 512) * 512)
        if not info.isdir():
            _refuse(path, info)
            files.append(Member(info.name, info.offset_data, info.size))
    return end


def _place_after(files: list[Member]) -> str:
    return f"after member {files[-1].name}" if files else "at the first member"


def _refuse(path: Path, info: tarfile.TarInfo) -> None:
    rule = None
    if info.issym() or info.islnk():
        rule = f"is a link to {info.linkname}"
    elif not info.isreg() or info.issparse():
        rule = "is not a plain file"
    elif info.name.startswith("/"):
        rule = "has an absolute path"
    elif ".." in PurePosixPath(info.name).parts:
        rule = "has a parent path"
    elif info.size > MAX_MEMBER:
        rule = f"has {info.size} bytes, more than {MAX_MEMBER}"
    if rule:
        raise UserError(f"{path}: member {info.name} {rule}; shards hold plain files: write the tar again without it")


def entries(path: Path, image: str | None = None) -> list[Entry]:
    """Return the samples of a tar; see `contents`."""
    return contents(path, image).entries


def contents(path: Path, image: str | None = None) -> Contents:
    """Read the samples of a tar by webdataset's rule: all after the first dot of a file name is the extension.

    image: the extension of the members that are the images, such as "left.png", where a sample has several; else
    `image_extension` chooses. Hidden members and litter are left out. Raises UserError where a sample has no image, or
    several that nothing tells apart, or its members are not adjacent.
    """
    samples: list[Entry] = []
    left_out: list[tuple[str, Reason]] = []
    key, parts = "", dict[str, Member]()
    seen: set[str] = set()
    for member in members(path):
        member_key, extension = split_name(member.name)
        why = litter_on_path(member.name) or (None if member_key else "no image")
        if why is not None:
            left_out.append((member.name, why))
            continue
        if member_key != key:
            samples += [_entry(path, key, parts, image)] if parts else []
            if member_key in seen:
                raise UserError(f"{path}: member {member.name}: the members of a sample must be adjacent; sort the tar")
            seen.add(member_key)
            key, parts = member_key, {}
        _add(path, parts, extension, member)
    samples += [_entry(path, key, parts, image)] if parts else []
    if not samples:
        raise UserError(f"{path}: holds no samples; remove it")
    refuse_mixed_images(path, samples)
    return Contents(samples, LeftOut.of(left_out))


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name into the key of its sample and its extension in lower case.

    The key is empty for a file that webdataset passes over, because it has no key or no extension.
    """
    folder, _, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    if not stem or not extension:
        return "", extension.lower()
    return (f"{folder}/{stem}" if folder else stem), extension.lower()


def typed_extension(text: str) -> str:
    """Return an extension as the members are kept by it: ".JPG" is "jpg"."""
    return text.lstrip(".").lower()


def image_extension(extensions: Iterable[str]) -> str | None:
    """Return which member of a sample is its image; None where it has none, or nothing tells several apart.

    Of several, "png" goes before "mask.png", "jpg" before "png" (a mask is stored without loss), and "image.png" or
    another name for an image before "mask.png".
    """
    images = [extension for extension in extensions if extension.rpartition(".")[2] in EXTENSIONS]
    plain = [extension for extension in images if "." not in extension]
    lossy = [extension for extension in plain if extension != "png"]
    named = [extension for extension in images if extension.partition(".")[0] in _NAMES_OF_IMAGES]
    return next((group[0] for group in (images, plain, lossy, named) if len(group) == 1), None)


def refuse_mixed_images(path: Path, samples: Iterable[Entry]) -> None:
    """Refuse samples whose image is of a kind that others hold beside theirs: a mask whose image is missing.

    path: what the samples are of, for the message.
    """
    beside: set[str] = set()
    taken: dict[str, str] = {}  # a key for each extension
    for sample in samples:
        taken.setdefault(split_name(sample.image.name)[1], sample.key)
        beside.update(sample.others)
    for extension in taken.keys() & beside:
        raise UserError(
            f"{path}: sample {taken[extension]} has no other image than its {extension}, which other samples have "
            "beside their image; write the tar again, with the image of every sample"
        )


def _add(path: Path, parts: dict[str, Member], extension: str, member: Member) -> None:
    """Add a member to its sample. One that is there twice, as `tar -r` appends it, is refused."""
    if extension in parts:
        raise UserError(f"{path}: member {member.name} is there twice in its sample; write the tar again")
    parts[extension] = member


def _entry(path: Path, key: str, parts: dict[str, Member], image: str | None) -> Entry:
    chosen = image if image in parts else None if image else image_extension(parts)
    if chosen is not None:
        return Entry(key, parts.pop(chosen), parts)
    names = ", ".join(m.name for m in list(parts.values())[:_SHOWN]) + (", ..." if len(parts) > _SHOWN else "")
    if image:
        raise UserError(
            f"{path}: sample {key} ({names}) has no member {image}; name the extension that all samples have"
        )
    images = [extension for extension in parts if extension.rpartition(".")[2] in EXTENSIONS]
    choice = f"choose one with `python -m data_shards index DIR --image {images[0]}`, or " if images else ""
    raise UserError(
        f"{path}: sample {key} ({names}) has {len(images)} images, one is needed "
        f"({', '.join(EXTENSIONS)}); {choice}write the tar again, or make a set with `make folder`"
    )


def tars_in(folder: Path) -> list[Path]:
    """Return the tars in a folder, sorted. A hidden one is none: macOS leaves ._x.tar beside x.tar."""
    return sorted(path for path in folder.glob("*.tar") if litter(path.name) is None)


def read(handle: int, member: Member) -> bytes:
    """Read the bytes of a member. handle: of the open tar."""
    return os.pread(handle, member.length, member.offset)


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
