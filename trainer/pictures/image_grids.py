"""Images arranged as one picture, with labels: uint8 tensors -> lossless PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from common.atomic_writes import publish
from common.errors import UserError

PAD = 2  # px between images
PAPER, INK = 255, (30, 30, 30)
TEXT = 13  # px of letters


def to_uint8(images: Tensor) -> Tensor:
    """Round images in [0, 1] as a saved file would hold them. Raises UserError where one is not finite."""
    if not torch.isfinite(images).all():
        raise UserError("the network makes images that are not finite: it has diverged; take an earlier checkpoint")
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def grid(images: Tensor, columns: int) -> Image.Image:
    """Arrange images uint8 [N, 1 or 3, R, R] as one picture, `columns` images wide."""
    sheet = make_grid(images.expand(-1, 3, -1, -1), nrow=columns, padding=PAD, pad_value=PAPER)
    return Image.fromarray(sheet.permute(1, 2, 0).numpy())


def labelled(rows: Sequence[tuple[str, Image.Image]], width: int = 120, gap: int = 0, text: int = TEXT) -> Image.Image:
    """Put pictures below each other, each with a label on its left.

    width: px of the labels; gap: px between pictures; text: px of letters.
    """
    font = ImageFont.load_default(text)
    height = sum(p.height for _, p in rows) + gap * (len(rows) - 1)
    sheet = Image.new("RGB", (width + max(p.width for _, p in rows), height), (PAPER,) * 3)
    pen, y = ImageDraw.Draw(sheet), 0
    for label, picture in rows:
        sheet.paste(picture, (width, y))
        pen.multiline_text((6, y + picture.height / 2), label, INK, font, anchor="lm", spacing=4)
        y += picture.height + gap
    return sheet


def headed(titles: Sequence[str], picture: Image.Image, left: int, text: int = TEXT) -> Image.Image:
    """Put titles above the columns of a picture, which are equally wide and begin `left` px from its edge."""
    font, height = ImageFont.load_default(text), 2 * text
    sheet = Image.new("RGB", (picture.width, height + picture.height), (PAPER,) * 3)
    sheet.paste(picture, (0, height))
    pen, column = ImageDraw.Draw(sheet), (picture.width - left) / len(titles)
    for i, title in enumerate(titles):
        pen.text((left + (i + 0.5) * column, height / 2), title, INK, font, anchor="mm")
    return sheet


def beside(pictures: Sequence[Image.Image], gap: int = 16) -> Image.Image:
    """Put pictures next to each other, aligned at the top. gap: px between them."""
    width = sum(p.width for p in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, max(p.height for p in pictures)), (PAPER,) * 3)
    x = 0
    for picture in pictures:
        sheet.paste(picture, (x, 0))
        x += picture.width + gap
    return sheet


def picture_of(image: Tensor) -> Image.Image:
    """Return an image uint8 [1 or 3, R, R] as a picture, grey or RGB."""
    return Image.fromarray((image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy())


def read_image(path: Path) -> Tensor:
    """Read the file of an image that was saved: uint8 [1, 1 or 3, R, R]."""
    with Image.open(path) as picture:
        pixels = torch.from_numpy(np.array(picture))
    return (pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))[None]


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture as a PNG file, in a folder that is made if need be; it appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, png(picture))


def png(picture: Image.Image) -> bytes:
    """Return the content of a picture's PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
