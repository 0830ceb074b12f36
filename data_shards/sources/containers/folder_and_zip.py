"""Images in a folder or in a zip. Nothing is ever extracted to disk."""

from __future__ import annotations

import functools
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from common.errors import UserError
from data_shards.format.tars import MAX_MEMBER

from .image_store import Fault, Photo, Store, is_image_name

# What zipfile raises for a damaged member.
_DAMAGED = (zipfile.BadZipFile, zlib.error, LZMAError, OSError, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class FolderStore(Store):
    """Image files at any depth below a folder."""

    root: Path

    def photos(self) -> list[Photo]:
        """Return all image files, sorted by path."""
        return [Photo(path, path) for path in sorted(_below(self.root, self.root, frozenset()))]

    def read(self, photo: Photo) -> bytes:
        """Return the bytes of a file."""
        try:
            return (self.root / photo.path).read_bytes()
        except OSError as error:
            raise Fault(
                f"cannot be read ({error.strerror})", "correct its permissions or the disk, or remove it"
            ) from None

    def where(self, photo: Photo) -> str:
        """Return the path below the folder."""
        return photo.path


@dataclass(frozen=True)
class ZipStore(Store):
    """Image members of a zip from anywhere: sizes are bounded, and paths that point outside are refused."""

    path: Path

    def photos(self) -> list[Photo]:
        """Return all image members, sorted by path."""
        names: set[str] = set()
        for info in _archive(self.path).infolist():
            _refuse_outside(self.path, info.filename)
            if info.is_dir() or not is_image_name(PurePosixPath(info.filename).name) or "__MACOSX/" in info.filename:
                continue
            if info.filename in names:
                raise UserError(f"{self.path}: member {info.filename} is there twice; write the zip again")
            names.add(info.filename)
        return [Photo(name, name) for name in sorted(names)]

    def read(self, photo: Photo) -> bytes:
        """Return the bytes of a member, at most 64 MiB, whose checksum is verified."""
        archive = _archive(self.path)
        try:
            info = archive.getinfo(photo.path)
            if info.flag_bits & 1:
                raise Fault("is encrypted", "write the zip again without a password")
            if info.file_size > MAX_MEMBER:
                raise Fault(f"unpacks to {info.file_size} bytes, more than {MAX_MEMBER}", "shrink it, or remove it")
            return archive.read(info)  # never more than info.file_size bytes, and their crc is checked
        except KeyError:
            raise Fault("is not in the archive any more", "run again") from None
        except _DAMAGED as error:
            raise Fault(f"is damaged in its archive ({error})", "copy the archive again") from None

    def where(self, photo: Photo) -> str:
        """Return the archive's name and the member."""
        return f"{self.path.name}: member {photo.path}"


def _below(root: Path, folder: Path, above: frozenset[str]) -> Iterator[str]:
    """Yield the images at any depth, also behind links. A link to a folder above it is skipped. above: real paths."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
        for entry in entries:
            if entry.is_dir():
                yield from _below(root, Path(entry.path), above | {real})
            elif is_image_name(entry.name) and (entry.is_file() or entry.is_symlink()):
                # A broken link is no file, but the scan reports it.
                yield Path(entry.path).relative_to(root).as_posix()
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be read ({error.strerror}); correct its permissions, or move it away"
        ) from None


def _refuse_outside(archive: Path, name: str) -> None:
    """Refuse a member whose path leads out of the archive."""
    parts = name.replace("\\", "/").split("/")
    absolute = not parts[0] or re.match("[A-Za-z]:", name)
    rule = "a parent path" if ".." in parts else "an absolute path" if absolute else None
    if rule:
        raise UserError(f"{archive}: member {name} has {rule}; write the zip again without it")


def _archive(path: Path) -> zipfile.ZipFile:
    """Return the open zip; it is opened anew when the file has changed."""
    state = path.stat()
    return _opened(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=2)
def _opened(path: Path, *state: int) -> zipfile.ZipFile:
    """One open zip for all members that a process reads: its table of contents takes a second."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: not a readable zip ({error}); copy it again, or name a folder of images") from None


def open_store(src: Path) -> Store:
    """Open a folder or zip of images. Raises UserError where there is neither."""
    if src.is_dir():
        return FolderStore(src)
    if src.is_file():
        return ZipStore(src)
    raise UserError(f"{src}: no such folder or zip; name a folder of images, or a zip of them")
