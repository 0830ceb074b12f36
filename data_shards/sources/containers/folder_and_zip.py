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
from data_shards.format.index import FILE as INDEX
from data_shards.format.left_out import LeftOut, Reason
from data_shards.format.litter import litter, litter_on_path
from data_shards.format.manifest import FILE as MANIFEST
from data_shards.format.manifest import UNFINISHED
from data_shards.format.tars import MAX_MEMBER

from .image_store import Fault, Photo, Store, is_image_name

# What zipfile raises for a damaged member.
_DAMAGED = (zipfile.BadZipFile, zlib.error, LZMAError, OSError, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class FolderStore(Store):
    """Image files at any depth below a folder. Hidden entries and litter are left out."""

    root: Path

    def photos(self) -> list[Photo]:
        """Return all image files, sorted by path."""
        found = _below(self.root, self.root, frozenset())
        return [Photo(path, path) for path, why in sorted(found) if why is None]

    def left_out(self) -> LeftOut:
        """Return all other files, hidden ones and litter among them."""
        return LeftOut.of((path, why) for path, why in _below(self.root, self.root, frozenset()) if why is not None)

    def read(self, photo: Photo) -> bytes:
        """Return the bytes of a file."""
        path = self.root / photo.path
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise Fault("is no file", "remove it")
            return path.read_bytes()
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
        for name in self._members():
            if _why_not(name) is not None:
                continue
            if name in names:
                raise UserError(f"{self.path}: member {name} is there twice; write the zip again")
            names.add(name)
        return [Photo(name, name) for name in sorted(names)]

    def left_out(self) -> LeftOut:
        """Return all other members, hidden ones and litter among them."""
        reasons = ((name, _why_not(name)) for name in self._members())
        return LeftOut.of((name, why) for name, why in reasons if why is not None)

    def _members(self) -> Iterator[str]:
        """Yield the names of all members but folders."""
        for info in _archive(self.path).infolist():
            _refuse_outside(self.path, info.filename)
            if not info.is_dir():
                yield info.filename

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


def _why_not(path: str) -> Reason | None:
    """Return why a file at a path below a folder or in an archive is not taken; None for an image."""
    return litter_on_path(path) or (None if is_image_name(PurePosixPath(path).name) else "no image")


def _below(root: Path, folder: Path, above: frozenset[str]) -> Iterator[tuple[str, Reason | None]]:
    """Yield the files at any depth, also behind links, with why one is not taken (None: an image).

    Passed over: a link to a folder above it, and a set of shards, which --out may put among its images. above: real
    paths. A broken link is no file, but the scan reports it.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
        if folder != root and _is_set(folder, {entry.name for entry in entries}):
            return
        for entry in entries:
            path = Path(entry.path).relative_to(root).as_posix()
            why = litter(entry.name)
            if why is not None:
                yield from ((name, why) for name in _litter_files(root, Path(entry.path)))
            elif entry.is_dir():
                yield from _below(root, Path(entry.path), above | {real})
            else:
                yield path, _why_not(path)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be read ({error.strerror}); correct its permissions, or move it away"
        ) from None


def _is_set(folder: Path, names: set[str]) -> bool:
    """Return whether a folder with these entries is a set of shards, or becomes one."""
    return UNFINISHED in names or (MANIFEST in names and any(folder.glob(f"*/{INDEX}")))


def _litter_files(root: Path, entry: Path) -> Iterator[str]:
    """Yield a file that is litter, or the files below a folder that is, as far as they can be read.

    A folder of snapshots counts as one file: it holds every other file, many times.
    """
    if entry.is_symlink() or not entry.is_dir() or "snapshot" in entry.name.lower() or entry.name == ".zfs":
        yield entry.relative_to(root).as_posix()
        return
    for folder, _, files in os.walk(entry):
        yield from ((Path(folder) / name).relative_to(root).as_posix() for name in files)


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
