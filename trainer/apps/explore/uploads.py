"""Pictures of the user, cropped and resized as the images of the model's data set are."""

from __future__ import annotations

import io
import secrets
from collections import OrderedDict
from typing import NamedTuple

import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from common.errors import UserError
from data_shards.sources.containers.image_store import FORMATS, Fault
from data_shards.sources.photos import celeba, chairs
from data_shards.sources.photos.crop_and_resize import CropAndResize, FixedBox, LargestSquare, centre
from data_shards.sources.photos.rejection_rules import usable

MOST_BYTES = 20 * 2**20  # of a file
MOST_PICTURES = 8  # that are remembered
WHOLE = 2**16  # px that no picture has: none is decoded at a smaller size


class Picture(NamedTuple):
    """pixels: uint8 [1, C, R, R]; remark: what was done to it, for a reader."""

    pixels: Tensor
    remark: str


class Pictures:
    """The newest pictures by a key that cannot be guessed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Picture] = OrderedDict()

    def keep(self, picture: Picture) -> str:
        """Keep a picture, return its key, and forget the oldest of too many."""
        key = secrets.token_urlsafe(9)
        self._kept[key] = picture
        if len(self._kept) > MOST_PICTURES:
            self._kept.popitem(last=False)
        return key

    def of(self, key: str) -> Picture:
        """Return a picture. Raises a UserError where it was forgotten."""
        try:
            return self._kept[key]
        except KeyError:
            raise UserError("the program has this picture no longer; upload it again") from None


def read_picture(data: bytes, data_set: str | None, resolution: int, channels: int) -> Picture:
    """Read the bytes of an image file.

    data_set: of the model, as its export says; resolution: of the result, px; channels: 1 makes it grey. Raises a
    UserError where it is no image, or one that no data set may hold.
    """
    try:
        image = usable(_upright, data, lambda width, height: None, WHOLE)
    except Fault as fault:
        rule, remedy = fault.args
        raise UserError(f"the picture {rule}; {remedy}") from None
    rule, said = _transform(data_set, image.size, resolution)
    array = torch.from_numpy(rule.pixels(image.convert("RGB"), None).copy())
    pixels = array.permute(2, 0, 1)[None]
    if channels == 1:
        grey = Image.fromarray(array.numpy()).convert("L")
        pixels = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).view(1, 1, *grey.size)
    return Picture(pixels, said)


def _upright(data: bytes) -> Image.Image:
    """Open an image; one that its camera only says to be turned is turned."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return image
    turned = ImageOps.exif_transpose(image)
    turned.format = image.format
    return turned


def _transform(data_set: str | None, size: tuple[int, int], resolution: int) -> tuple[CropAndResize, str]:
    """Return how an image of a size (width, height) is cropped for a data set, and what that is for a reader."""
    boxes = {
        ("celeba", (celeba.WIDTH, celeba.HEIGHT)): celeba.CROPS["paper"],
        ("chairs", (chairs.SIDE, chairs.SIDE)): centre(chairs.SIDE, chairs.SIDE, chairs.CROP),
    }
    box = boxes.get((data_set or "", size))
    came = f"{size[0]} x {size[1]} px"
    if box is not None:
        remark = f"{came}: its box of {box[2] - box[0]} px, as in {data_set}, at {resolution} px"
        return FixedBox(resolution, "", size, box), remark
    if size == (resolution, resolution):
        return LargestSquare(resolution), f"{came}, as it is"
    return LargestSquare(resolution, enlarge=True), f"{came}: its centre square, at {resolution} px"
