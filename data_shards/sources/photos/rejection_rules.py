"""The rules that make an image unusable, whatever its data set."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable

from PIL import Image, UnidentifiedImageError

from common.errors import UserError
from data_shards.sources.base import Offender, Scanned
from data_shards.sources.containers.image_store import Fault, Photo, Store

from .crop_and_resize import CropAndResize

GREY = "grey images are stored as RGB"
MAX_PIXELS = 100_000_000
_GREY_MODES = ("1", "L", "LA", "La")  # Pillow's
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258


def inspect(store: Store, transform: CropAndResize, photo: Photo) -> Scanned:
    """Open and decode one image. Returns what is wrong with it, or remarks on it."""
    try:
        if photo.fault:
            raise Fault(*photo.fault)
        image = usable(store.open, store.read(photo), lambda w, h: transform.refuse(w, h, photo.box), transform.size)
    except Fault as fault:
        rule, remedy = fault.args
        return Scanned(Offender(store.where(photo), rule, remedy))
    grey = (GREY,) if image.mode in _GREY_MODES else ()
    return Scanned(remarks=(*grey, *transform.remarks(*image.size)))


def usable(
    opened: Callable[[bytes], Image.Image], data: bytes, refuse: Callable[[int, int], None], size: int
) -> Image.Image:
    """Decode an image, a large JPEG at a smaller size. Raises a Fault with the first rule that it breaks.

    opened: opens the bytes of a file, `data`. refuse: raises a Fault for a width and height in px that cannot be used.
    size: that the image is wanted at, px.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = opened(data)
            _refuse_header(image, data)
            refuse(image.width, image.height)
            image.draft(image.mode, (size, size))  # a smaller JPEG decodes faster, with the same errors
            image.load()
            _refuse_transparent(image)
            return image
    except Image.DecompressionBombError:
        raise Fault(f"is larger than {MAX_PIXELS // 10**6} megapixels", "shrink it first") from None
    except UnidentifiedImageError:
        raise Fault("is not a readable image", "convert it to PNG or JPEG, or remove it") from None
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, struct.error) as error:  # TIFF raises all of them
        raise Fault(f"is truncated or damaged ({error})", "copy it again, or remove it") from None


def _refuse_header(image: Image.Image, data: bytes) -> None:
    """Raise a Fault with the first rule that an opened, not yet decoded image breaks."""
    if image.width * image.height > MAX_PIXELS:
        rule = f"is {image.width}x{image.height}, larger than {MAX_PIXELS // 10**6} megapixels"
        raise Fault(rule, "shrink it first")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # a phone's JPEG may hold depth or a preview, too
        raise Fault(f"is animated ({getattr(image, 'n_frames', 1)} frames)", "save the frame that you want")
    if image.mode in ("CMYK", "YCCK", "LAB"):
        raise Fault(f"is {image.mode}", "convert it to sRGB")
    if image.mode.startswith(("I", "F")) or _is_deep(image, data):
        raise Fault("has 16 bits or more per channel", "convert it to 8 bits")
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation != 1:
        rule = f"is EXIF-rotated (orientation {orientation})"
        raise Fault(rule, "turn its pixels (exiftran -a, or mogrify -auto-orient)")


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Return whether an image is 16-bit RGB, which Pillow cuts to 8 bits without a warning."""
    if image.format == "PNG":
        return data[24] == 16  # IHDR's bit depth
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    return max(bits if isinstance(bits, tuple) else (bits,)) > 8


def _refuse_transparent(image: Image.Image) -> None:
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise Fault("has transparent pixels", "flatten it onto a background")


def rgb(store: Store, photo: Photo) -> Image.Image:
    """Decode an image that passed the scan, in RGB. Raises UserError where it has changed since."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return store.open(store.read(photo)).convert("RGB")
    except (Fault, OSError, SyntaxError, ValueError) as error:
        why = error.args[0] if isinstance(error, Fault) else error
        raise UserError(
            f"{store.where(photo)}: cannot be read any more ({why}); it changed since the scan: run again"
        ) from None
