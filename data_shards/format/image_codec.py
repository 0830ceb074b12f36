"""Encode pixels as the bytes of an image file, and decode them again."""

from __future__ import annotations

import io

import numpy as np
import torch
import torchvision
from PIL import Image
from PIL import __version__ as pillow_version
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from common.arrays import UInt8

from .manifest import Codec

_MODES = {1: ImageReadMode.GRAY, 3: ImageReadMode.RGB}


def tool_versions() -> dict[str, str]:
    """Return the versions of the packages that turn pixels into bytes and back."""
    return {"pillow": pillow_version, "torchvision": torchvision.__version__, "numpy": np.__version__}


def encode(image: UInt8, codec: Codec) -> bytes:
    """Encode an image uint8 [R, R, C], C = 1 or 3. The same pixels give the same bytes every time."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    stream = io.BytesIO()
    if codec.name == "png":
        picture.save(stream, "PNG", compress_level=4)  # 6 is 3 times slower for 3 % fewer bytes
    elif codec.name == "webp":
        picture.convert("RGB").save(stream, "WEBP", lossless=True, quality=25, method=2, exact=True)
    else:
        picture.save(stream, "JPEG", quality=codec.quality, subsampling="4:4:4")
    return stream.getvalue()


def decode(data: bytes, channels: int) -> Tensor:
    """Decode a png, jpeg or webp: uint8 [C, H, W] (uint16 for a 16-bit png).

    Raises RuntimeError or ValueError where the bytes are damaged.

    torchvision decodes 1.1 to 1.6 times as fast as Pillow (benchmarks/loading.py).
    """
    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    if data[:4] == b"RIFF":  # WebP has no grey images: they are stored as three equal channels
        return decode_image(raw, ImageReadMode.RGB)[:channels]
    return decode_image(raw, _MODES[channels])
