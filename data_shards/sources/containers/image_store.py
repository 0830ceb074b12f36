"""Where the image files of a data set are: a folder or a zip. Nothing is ever extracted to disk."""

from __future__ import annotations

import functools
import io
import os
import re
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from common.errors import UserError
from data_shards.format.tars import MAX_MEMBER

EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")  # Pillow has others, of which some start programs
Box = tuple[int, int, int, int]  # left, top, right, bottom in px, the last two exclusive


class Fault(Exception):
    """What is wrong with one image: Fault(rule that it breaks, remedy)."""


class Photo(NamedTuple):
    """One image of a source.

    name: what the sample is called. path: in the folder or archive. place: numbers that a store of records
    needs to find it. labels: values in the order of the source's labels. box: what this image is cropped to.
    fault: a rule that it breaks, and the remedy, known without opening it.
    """

    name: str
    path: str
    place: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    box: Box | None = None
    fault: tuple[str, str] | None = None


class Store(ABC):
    """Bytes of images. A store pickles: worker processes open their own handles."""

    @abstractmethod
    def photos(self) -> list[Photo]:
        """All images, sorted by path."""

    @abstractmethod
    def read(self, photo: Photo) -> bytes:
        """What is stored for an image; a Fault where it cannot be read whole."""

    @abstractmethod
    def where(self, photo: Photo) -> str:
        """The image's place for a reader: file, or archive and member."""

    def open(self, data: bytes) -> Image.Image:
        """The image in what `read` gave, not decoded yet."""
        return Image.open(io.BytesIO(data), formats=FORMATS)


@dataclass(frozen=True)
class FolderStore(Store):
    """Image files at any depth below a folder."""

    root: Path

    def photos(self) -> list[Photo]:
        return [Photo(path, path) for path in sorted(_below(self.root, self.root, frozenset()))]

    def read(self, photo: Photo) -> bytes:
        try:
            return (self.root / photo.path).read_bytes()
        except OSError as error:
            raise Fault(f"cannot be read ({error.strerror})", "mend its rights or the disk, or remove it") from None

    def where(self, photo: Photo) -> str:
        return photo.path


@dataclass(frozen=True)
class ZipStore(Store):
    """Image members of a zip from anywhere: sizes are bounded, and paths that point outside are refused."""

    path: Path

    def photos(self) -> list[Photo]:
        names: set[str] = set()
        for info in _archive(self.path).infolist():
            _refuse(self.path, info.filename)
            if info.is_dir() or not _wanted(PurePosixPath(info.filename).name) or "__MACOSX/" in info.filename:
                continue
            if info.filename in names:
                raise UserError(f"{self.path}: member {info.filename} is there twice; write the zip again")
            names.add(info.filename)
        return [Photo(name, name) for name in sorted(names)]

    def read(self, photo: Photo) -> bytes:
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
        except (
            zipfile.BadZipFile,
            zlib.error,
            LZMAError,
            OSError,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise Fault(f"is damaged in its archive ({error})", "copy the archive again") from None

    def where(self, photo: Photo) -> str:
        return f"{self.path.name}: member {photo.path}"


def _below(root: Path, folder: Path, above: frozenset[str]) -> Iterator[str]:
    """Images at any depth, also behind links, but for a link to a folder that it is in."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
        for entry in entries:
            if entry.is_dir():
                yield from _below(root, Path(entry.path), above | {real})
            elif _wanted(entry.name) and (entry.is_file() or entry.is_symlink()):  # a broken link is told in the scan
                yield Path(entry.path).relative_to(root).as_posix()
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); mend its rights, or move it away") from None


def _wanted(name: str) -> bool:
    """An image by its name; "._" begins what macOS leaves beside a file."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS and not name.startswith("._")


def _refuse(archive: Path, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    absolute = not parts[0] or re.match("[A-Za-z]:", name)
    rule = "a parent path" if ".." in parts else "an absolute path" if absolute else None
    if rule:
        raise UserError(f"{archive}: member {name} has {rule}; write the zip again without it")


def _archive(path: Path) -> zipfile.ZipFile:
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
    """The images of a folder or zip."""
    if src.is_dir():
        return FolderStore(src)
    if src.is_file():
        return ZipStore(src)
    raise UserError(f"{src}: no such folder or zip; name a folder of images, or a zip of them")


def images_of(store: Store, src: Path) -> list[Photo]:
    """All images of a store, at least one."""
    found = store.photos()
    if not found:
        raise UserError(
            f"{src}: holds no images ({', '.join(sorted(EXTENSIONS))}); name a folder of images or a zip of them"
        )
    return found


def by_file_name(photos: Sequence[Photo], src: Path) -> list[Photo]:
    """The same images, named and sorted by file name alone, for data sets whose file names are unique."""
    seen: dict[str, Photo] = {}
    for photo in photos:
        name = PurePosixPath(photo.path).name
        if name in seen:
            raise UserError(f"{src}: holds {seen[name].path} and {photo.path}, two images of one name; remove one")
        seen[name] = photo._replace(name=name)
    return [seen[name] for name in sorted(seen)]
