"""Where the images of a data set are kept: the interface of all containers, and the images in them."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from common.errors import UserError
from data_shards.format.left_out import LeftOut

EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")  # Pillow has others, of which some start programs
Box = tuple[int, int, int, int]  # left, top, right, bottom in px, the last two exclusive


class Fault(Exception):
    """One image cannot be used: Fault(rule that it breaks, remedy)."""


class Photo(NamedTuple):
    """One image of a source.

    name: of the sample. path: in the folder or archive. place: numbers by which a store of records finds it. labels:
    values in the order of the source's labels. box: what this image is cropped to. fault: a rule that it breaks, and
    the remedy, where that is known without opening it.
    """

    name: str
    path: str
    place: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    box: Box | None = None
    fault: tuple[str, str] | None = None


class Store(ABC):
    """A container of images. A store pickles: worker processes open their own handles."""

    @abstractmethod
    def photos(self) -> list[Photo]:
        """Return all images, sorted by path."""

    @abstractmethod
    def read(self, photo: Photo) -> bytes:
        """Return the bytes that are stored for an image. Raises a Fault where they cannot be read whole."""

    @abstractmethod
    def where(self, photo: Photo) -> str:
        """Return the image's place in words: file, or archive and member. It is unique in the store."""

    def open(self, data: bytes) -> Image.Image:
        """Open the bytes that `read` returned as an image, not decoded yet."""
        return Image.open(io.BytesIO(data), formats=FORMATS)

    def left_out(self) -> LeftOut:
        """Return what lies beside the images and is none of them. A container of records holds nothing else."""
        return LeftOut()


def is_image_name(name: str) -> bool:
    """Return whether a file name is that of an image."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def images_of(store: Store, src: Path) -> list[Photo]:
    """Return all images of a store. Raises UserError where there is none. src: the store's path, for the message."""
    photos = store.photos()
    if not photos:
        beside = "".join(f"; {note}" for note in store.left_out().notes())
        raise UserError(
            f"{src}: holds no images ({', '.join(sorted(EXTENSIONS))}){beside}; "
            "name a folder of images or a zip of them"
        )
    return photos


def by_file_name(photos: Sequence[Photo], src: Path) -> list[Photo]:
    """Return the same images, named and sorted by file name alone.

    Raises UserError where two have the same name.
    """
    seen: dict[str, Photo] = {}
    for photo in photos:
        name = PurePosixPath(photo.path).name
        if name in seen:
            raise UserError(f"{src}: holds {seen[name].path} and {photo.path}, two images of one name; remove one")
        seen[name] = photo._replace(name=name)
    return [seen[name] for name in sorted(seen)]
