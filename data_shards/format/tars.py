"""Read the table of contents of a tar that may come from anywhere. Nothing is ever extracted."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from common.errors import UserError

from .litter import litter

MAX_MEMBER = 64 * 2**20  # bytes
EXTENSIONS = ("png", "jpg", "jpeg", "webp")  # of images
_END = b"\0" * 1024  # two zero blocks end every tar


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
        if stream.read(1024) != _END:
            raise UserError(f"{path}: truncated or damaged ({_place_after(files)}: no end of archive); copy it again")
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


def entries(path: Path) -> list[Entry]:
    """Return the samples of a tar by webdataset's rule: all after the first dot of a file name is the extension.

    Raises UserError where a sample has no image or several, or its members are not adjacent.
    """
    samples: list[Entry] = []
    key, parts = "", dict[str, Member]()
    seen: set[str] = set()
    for member in members(path):
        folder, _, file = member.name.rpartition("/")
        stem, dot, extension = file.partition(".")
        if not stem or not dot:
            continue  # as webdataset does: a file without a key or an extension is no member of a sample
        member_key = f"{folder}/{stem}" if folder else stem
        if member_key != key:
            if parts:
                samples.append(_entry(path, key, parts))
            if member_key in seen:
                raise UserError(f"{path}: member {member.name}: the members of a sample must be adjacent; sort the tar")
            seen.add(member_key)
            key, parts = member_key, {}
        parts[extension.lower()] = member
    if parts:
        samples.append(_entry(path, key, parts))
    if not samples:
        raise UserError(f"{path}: holds no samples; remove it")
    return samples


def _entry(path: Path, key: str, parts: dict[str, Member]) -> Entry:
    images = [extension for extension in parts if extension in EXTENSIONS]
    if len(images) != 1:
        names = ", ".join(m.name for m in parts.values())
        raise UserError(
            f"{path}: sample {key} ({names}) has {len(images)} images, one is needed "
            f"({', '.join(EXTENSIONS)}); write the tar again"
        )
    return Entry(key, parts.pop(images[0]), parts)


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
