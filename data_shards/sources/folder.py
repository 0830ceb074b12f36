"""Images in sub-folders (= class names): centre crop to a square, Lanczos to the largest level, always
RGB."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import UserError
from ..manifest import Factor, Label
from ..pool import ordered
from ..tars import sha256
from .base import Offender, Sample, listing_hash

EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
MAX_PIXELS = 100_000_000
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258


@dataclass(frozen=True)
class Part:
    """Files of one shard: paths relative to the root, and their classes where there are any."""

    root: Path
    files: tuple[str, ...]
    classes: tuple[int, ...] | None
    size: int

    def __iter__(self) -> Iterator[Sample]:
        for position, file in enumerate(self.files):
            labels = {} if self.classes is None else {"class": self.classes[position]}
            yield Sample(file, load(self.root / file, self.size), labels, {})


@dataclass(frozen=True)
class Folder:
    """The image files below a folder, sorted by relative path."""

    root: Path
    size: int
    files: tuple[str, ...]
    listing_sha256: str
    data_set: str = "folder"
    channels: int = 3
    factors: tuple[Factor, ...] = ()
    notes: tuple[str, ...] = ("grey images are stored as RGB",)

    @property
    def names(self) -> Sequence[str]:
        return self.files

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Sub-folders, sorted; empty where there is only one."""
        found = sorted({Path(file).parent.as_posix() for file in self.files})
        return tuple(found) if len(found) > 1 else ()

    @property
    def labels(self) -> tuple[Label, ...]:
        return (Label(name="class", classes=self.class_names),) if self.class_names else ()

    @property
    def recipe(self) -> dict[str, Any]:
        return {
            "source": "folder",
            "crop": "centre square",
            "filter": "lanczos",
            "size": self.size,
            "colour": "RGB",
        }

    def part(self, start: int, stop: int) -> Part:
        files = self.files[start:stop]
        number = {name: i for i, name in enumerate(self.class_names)}
        classes = tuple(number[Path(f).parent.as_posix()] for f in files) if number else None
        return Part(self.root, files, classes, self.size)

    def scan(self, workers: int) -> Iterator[Offender | None]:
        return ordered(functools.partial(inspect, self.root, self.size), self.files, workers)

    def without(self, offenders: Sequence[Offender]) -> Folder:
        bad = {offender.file for offender in offenders}
        return replace(self, files=tuple(f for f in self.files if f not in bad))


def folder(root: Path, size: int) -> Folder:
    """The source of all images below `root`, for a largest level of `size` px."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name a folder of images")
    paths = [p for p in root.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file()]
    files = sorted(path.relative_to(root).as_posix() for path in paths)
    if not files:
        raise UserError(f"{root}: holds no images ({', '.join(sorted(EXTENSIONS))}); name a folder of images")
    listing = listing_hash(f"{file}\t{sha256(root / file)}" for file in files)
    return Folder(root, size, tuple(files), listing)


def inspect(root: Path, size: int, file: str) -> Offender | None:
    """Open and decode one file; what is wrong with it, or None."""
    data = (root / file).read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            broken = _rule(image, data, size)
            if broken is None:
                image.draft(image.mode, (size, size))  # a JPEG decodes faster when shrunk, and fails all the same
                image.load()
                broken = _transparent(image)
    except Image.DecompressionBombError:
        broken = f"is larger than {MAX_PIXELS // 10**6} megapixels", "shrink it first"
    except UnidentifiedImageError:
        broken = "is not a readable image", "convert it to PNG or JPEG, or remove it"
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        broken = f"is truncated or damaged ({error})", "copy it again, or remove it"
    return Offender(file, *broken) if broken else None


def _rule(image: Image.Image, data: bytes, size: int) -> tuple[str, str] | None:
    """The first rule that an opened, not yet decoded image breaks, and the remedy."""
    if image.width * image.height > MAX_PIXELS:
        return (
            f"is {image.width}x{image.height}, larger than {MAX_PIXELS // 10**6} megapixels",
            "shrink it first",
        )
    if getattr(image, "n_frames", 1) > 1:
        return f"is animated ({getattr(image, 'n_frames', 1)} frames)", "save the frame that you want"
    if image.mode in ("CMYK", "YCCK", "LAB"):
        return f"is {image.mode}", "convert it to sRGB"
    if image.mode.startswith(("I", "F")) or _deep(image, data):
        return "has 16 bits or more per channel", "convert it to 8 bits"
    if image.getexif().get(_ORIENTATION, 1) != 1:
        return (
            f"is EXIF-rotated (orientation {image.getexif()[_ORIENTATION]})",
            "turn its pixels (exiftran -a, or mogrify -auto-orient)",
        )
    if min(image.size) < size:
        return (
            f"is {image.width}x{image.height}, too small for {size} px",
            "choose a smaller largest resolution",
        )
    return None


def _deep(image: Image.Image, data: bytes) -> bool:
    """16-bit RGB, which Pillow would cut to 8 bits without a word."""
    if image.format == "PNG":
        return data[24] == 16  # IHDR's bit depth
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    return max(bits if isinstance(bits, tuple) else (bits,)) > 8


def _transparent(image: Image.Image) -> tuple[str, str] | None:
    if not image.has_transparency_data or image.convert("RGBA").getchannel("A").getextrema() == (255, 255):
        return None
    return "has transparent pixels", "flatten it onto a background"


def load(path: Path, size: int) -> NDArray[np.uint8]:
    """uint8 [size, size, 3]: the largest centred square, Lanczos to size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: cannot be read any more ({error}); it changed since the scan: run again") from None
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square if side == size else square.resize((size, size), Image.Resampling.LANCZOS))
