"""How an opened image becomes the pixels of the largest level: which box is taken, and how it is resized."""

from __future__ import annotations

import functools
import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.arrays import UInt8
from common.errors import UserError
from data_shards.format.manifest import CODE_RESOLUTION
from data_shards.format.pyramid import pyramid
from data_shards.sources.containers.image_store import Box, Fault

from .label_files import read_image_list

IDENTICAL = "pixel_identical"


class CropAndResize(ABC):
    """How every image of a source is cropped and resized. It pickles."""

    size: int  # px of the largest level

    @abstractmethod
    def refuse(self, width: int, height: int, box: Box | None) -> None:
        """Raise a Fault where an image, or its box, is not of a size that can be cropped so. width, height: px."""

    @abstractmethod
    def pixels(self, image: Image.Image, box: Box | None) -> UInt8:
        """Crop and resize an RGB image: uint8 [size, size, 3]. box: the image's own, where it has one."""

    def own(self, image: Image.Image, box: Box | None) -> UInt8 | None:
        """Return what `Sample.own` is for an RGB image: None where `pixels` does not enlarge it."""
        return None

    def remarks(self, width: int, height: int) -> tuple[str, ...]:
        """Return what is done to an image of this size, px, that its user should know."""
        return ()

    def measured(self, image: Image.Image, name: str) -> dict[str, int]:
        """Return labels that are measured of the pixels. name: of the sample."""
        return {}


def centre(width: int, height: int, side: int) -> Box:
    """Return the square of `side` px in the middle; an odd pixel is left over at the right and below."""
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def lanczos(image: Image.Image, box: Box, size: int) -> UInt8:
    """Crop, then resize: uint8 [size, size, C]. No pixel from outside the box has a part in the result."""
    part = image.crop(box)
    return np.asarray(part if part.size == (size, size) else part.resize((size, size), Image.Resampling.LANCZOS))


def must_be(width: int, height: int, expected: tuple[int, int], data_set: str) -> None:
    """Raise a Fault for an image of another size than its data set has."""
    if (width, height) != expected:
        remedy = f"take the image as {data_set} has it, or remove it"
        raise Fault(f"is {width}x{height}, not {expected[0]}x{expected[1]}", remedy)


@dataclass(frozen=True)
class LargestSquare(CropAndResize):
    """The largest centred square, Lanczos to size.

    enlarge: smaller images are enlarged to it, bilinear as encoders see images below 64 px; else they are refused.
    """

    size: int
    enlarge: bool = False

    def refuse(self, width: int, height: int, box: Box | None) -> None:
        """Raise a Fault where the shorter side is below `size`, unless such images are enlarged."""
        if min(width, height) < self.size and not self.enlarge:
            rule = f"is {width}x{height}, too small for {self.size} px"
            smaller = "choose a smaller largest resolution (64 px or more), or " if self.size > CODE_RESOLUTION else ""
            raise Fault(rule, f"{smaller}add --enlarge, which stores it enlarged")

    def pixels(self, image: Image.Image, box: Box | None) -> UInt8:
        """Crop and resize an RGB image: uint8 [size, size, 3]."""
        square = centre(*image.size, min(image.size))
        if min(image.size) >= self.size:
            return lanczos(image, square, self.size)
        return np.asarray(image.crop(square).resize((self.size, self.size), Image.Resampling.BILINEAR))

    def own(self, image: Image.Image, box: Box | None) -> UInt8 | None:
        """Return a smaller image's square at the largest power of two up to its side: by Lanczos, or as it is."""
        side = min(image.size)
        if side >= self.size:
            return None
        return lanczos(image, centre(*image.size, side), 1 << (side.bit_length() - 1))

    def remarks(self, width: int, height: int) -> tuple[str, ...]:
        """Return that an image below `size` is enlarged."""
        if min(width, height) >= self.size:
            return ()
        return (f"images below {self.size} px are enlarged to it, bilinear",)


@dataclass(frozen=True)
class FixedBox(CropAndResize):
    """One box for all images of a set that has one size; Lanczos to `size`, up or down."""

    size: int
    data_set: str
    expected: tuple[int, int]  # width and height in px
    box: Box

    def refuse(self, width: int, height: int, box: Box | None) -> None:
        """Raise a Fault where the image has another size than `expected`."""
        must_be(width, height, self.expected, self.data_set)

    def pixels(self, image: Image.Image, box: Box | None) -> UInt8:
        """Crop and resize an RGB image: uint8 [size, size, 3]."""
        return lanczos(image, self.box, self.size)


@dataclass(frozen=True)
class OwnBox(CropAndResize):
    """Each image's own box, Lanczos to a square whatever its aspect."""

    size: int

    def refuse(self, width: int, height: int, box: Box | None) -> None:
        """Raise a Fault where the box is empty, or not wholly in the image."""
        assert box is not None
        left, top, right, bottom = box
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            rule = f"is {width}x{height}, its box is ({left}, {top}, {right}, {bottom})"
            raise Fault(rule, "take the image that the annotations are about")

    def pixels(self, image: Image.Image, box: Box | None) -> UInt8:
        """Crop and resize an RGB image: uint8 [size, size, 3]."""
        assert box is not None
        return lanczos(image, box, self.size)


@dataclass(frozen=True)
class AsIs(CropAndResize):
    """Images of `side` px (a power of two) untouched, or their exact box means at `size`.

    image_list: the published list whose final_md5 (of the CHW bytes) says which images are the published ones. first:
    the number that names begin with, where labels go by them.
    """

    size: int
    data_set: str
    side: int
    image_list: Path | None = None
    first: int | None = None

    def refuse(self, width: int, height: int, box: Box | None) -> None:
        """Raise a Fault where the image is not square with a side of `side` px."""
        must_be(width, height, (self.side, self.side), self.data_set)

    def pixels(self, image: Image.Image, box: Box | None) -> UInt8:
        """Crop and resize an RGB image: uint8 [size, size, 3]."""
        return pyramid(np.asarray(image), [self.size])[self.size]

    def measured(self, image: Image.Image, name: str) -> dict[str, int]:
        """Return whether the pixels are published ones. Raises UserError where those have another number."""
        if self.image_list is None:
            return {}
        digest = hashlib.md5(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)).tobytes()).hexdigest()
        number = _published(self.image_list, self.image_list.stat().st_mtime_ns).get(digest)
        if number is not None and self.first is not None and number != number_in(name) - self.first:
            raise UserError(
                f"{name}: its pixels are those of number {number} in {self.image_list}, so labels by its name would be "
                "another person's; leave --labels out, or name images by their numbers"
            )
        return {IDENTICAL: int(number is not None)}


@functools.lru_cache(maxsize=1)
def _published(path: Path, mtime: int) -> dict[str, int]:
    """Numbers in the image list by hash. mtime: a changed file is read anew.

    Read once in each worker process: 30,000 hashes are too many to send with every image.
    """
    return {row.final_md5: row.number for row in read_image_list(path)}


def number_in(name: str) -> int:
    """Return the number in a file name, 17 in imgHQ00017.png; -1 without one."""
    match = re.search(r"(\d+)\D*$", Path(name).stem)
    return int(match[1]) if match else -1
