"""Image bytes <-> pixels, and the pyramid rule."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow_version
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

UInt8 = NDArray[np.uint8]
EXTENSIONS = ("png", "jpg", "jpeg", "webp")
_MODES = {1: ImageReadMode.GRAY, 3: ImageReadMode.RGB}


class Codec(BaseModel):
    """How images are stored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Literal["png", "webp", "jpeg"] = Field("png", description="png and webp are lossless, jpeg is not")
    quality: int | None = Field(None, ge=1, le=100, description="of jpeg; null for the lossless ones")

    @property
    def extension(self) -> str:
        return "jpg" if self.name == "jpeg" else self.name

    @property
    def lossless(self) -> bool:
        return self.name != "jpeg"


def tool_versions() -> dict[str, str]:
    """Versions of what turns pixels into bytes and back."""
    return {"pillow": pillow_version, "torchvision": torchvision.__version__, "numpy": np.__version__}


def encode(image: UInt8, codec: Codec) -> bytes:
    """Bytes of an image uint8 [R, R, C], C = 1 or 3; the same ones every time."""
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
    """Pixels of a png, jpeg or webp: uint8 [C, H, W]. Raises RuntimeError where the bytes are broken.

    torchvision decodes 1.1 to 1.6 times as fast as Pillow (benchmarks/loading.py).
    """
    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    if data[:4] == b"RIFF":  # WebP knows no grey: stored as three equal channels
        return decode_image(raw, ImageReadMode.RGB)[:channels]
    return decode_image(raw, _MODES[channels])


def pyramid(image: UInt8, levels: Sequence[int]) -> dict[int, UInt8]:
    """Every level as box means of one image uint8 [R, R, C]; levels: powers of two up to R.

    Each mean is taken of the image itself and rounded once, half up (the sums are exact integers).
    """
    size = image.shape[0]
    result = {size: image}
    sums = image.astype(np.uint32)
    for level in sorted(levels, reverse=True):
        while sums.shape[0] > level:
            sums = (sums[0::2, 0::2] + sums[0::2, 1::2]) + (sums[1::2, 0::2] + sums[1::2, 1::2])
        area = (size // level) ** 2
        result[level] = ((sums + area // 2) // area).astype(np.uint8)
    return {level: result[level] for level in levels}


def box_mean(images: Tensor, size: int) -> Tensor:
    """The same rule for a batch: uint8 [B, C, R, R] -> uint8 [B, C, size, size]. Exact in float32
    up to k = 256."""
    if images.shape[-1] == size:
        return images
    means = torch.nn.functional.avg_pool2d(images.to(torch.float32), images.shape[-1] // size)
    return means.add_(0.5).floor_().to(torch.uint8)
