"""Color-, Noisy- and Scream-dSprites (Table A.1), drawn anew at every access from the stored sprite.

A draw is a pure function of (seed, epoch, sample). The five factors stay the ground truth; colour is noise. Noise and
crop live on the 64 px grid, enlarged by nearest above it; the encoder's 64 px image is the box mean of the drawn image.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from common.errors import UserError
from common.random_numbers import Purpose, bits, integers, uniform

from .variant_names import Variant

log = logging.getLogger(__name__)
GRID = 64
PROCEDURAL = "procedural"  # the source of the texture in a painting's place
_THUMBNAIL = (350, 274)


@dataclass(frozen=True)
class Painting:
    """The picture behind Scream: pixels float32 [3, H, W] in [0, 1]; source: its path or PROCEDURAL."""

    pixels: Tensor = field(repr=False)
    source: str
    sha256: str


def load_painting(path: Path | None) -> Painting:
    """Open the user's painting, shrunk to fit 350x274, or draw a procedural texture where no path is given.

    A rotation that its EXIF data ask for is not made, with a warning: earlier runs drew it so. Raises UserError where
    the file is no picture, or too small.
    """
    if path is None:
        pixels = _procedural()
        digest = hashlib.sha256((pixels * 255).round().to(torch.uint8).numpy().tobytes()).hexdigest()
        return Painting(pixels, PROCEDURAL, digest)
    try:
        with Image.open(path) as opened:
            if opened.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                log.warning("warning: data.painting: %s is EXIF-rotated, and is used as its pixels lie", path)
            image = opened.convert("RGB")
        image.thumbnail(_THUMBNAIL)
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(
            f"data.painting: {path}: not a readable picture ({error}); name an image file or null"
        ) from None
    if min(image.size) < GRID:
        raise UserError(
            f"data.painting: {path}: {image.size} after shrinking is less than 64 px on a side; use a larger one"
        )
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    return Painting(pixels.contiguous(), str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def _procedural() -> Tensor:
    """Draw a painting-like texture: float32 [3, 274, 350].

    Warped bands in a warm and a cold palette, with brush noise.
    """
    height, width = _THUMBNAIL[1], _THUMBNAIL[0]
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    warp = 0.12 * np.sin(7 * x + 3 * y) + 0.07 * np.sin(17 * y - 5 * x + 1.3)
    bands = np.sin(2 * np.pi * (4.5 * (y + warp) + 1.2 * x))
    strokes = np.sin(2 * np.pi * (31 * (y + 1.6 * warp) + 3 * np.sin(5 * x)))
    mix = np.clip((0.55 - y) * 3 + 0.5 + 0.6 * warp, 0, 1)[None]
    warm, cold = np.array([0.82, 0.42, 0.16]), np.array([0.16, 0.25, 0.42])
    palette = mix * warm[:, None, None] + (1 - mix) * cold[:, None, None]
    picture = palette * (1 + 0.32 * bands + 0.14 * strokes) + 0.05 * bands * np.array([1, 0.4, -0.8])[:, None, None]
    return torch.from_numpy(np.clip(picture, 0, 1).astype(np.float32))


def draw(
    variant: Variant,
    sprites: Tensor,
    samples: Tensor,
    epochs: Tensor,
    seed: int,
    painting: Painting | None = None,
) -> Tensor:
    """Draw each sprite once in its variant. sprites: uint8 [B, 1, R, R], alpha in 0..255; samples, epochs: int64 [B].

    Returns uint8 [B, 3, R, R]; "plain" returns the sprites as they are, with one channel.
    """
    if variant == "plain":
        return sprites
    alpha = sprites.to(torch.float32) / 255
    position = (epochs << 32) | samples
    if variant == "color":
        levels = integers(seed, Purpose.VARIANT_COLOR, position, (3, 1, 1), 8)
        mixed = alpha * (levels.to(torch.float32) / 7)
    elif variant == "noisy":
        noise = uniform(seed, Purpose.VARIANT_NOISE, position, (3, GRID, GRID))
        mixed = alpha + (1 - alpha) * _enlarge(noise, sprites.shape[-1])
    else:
        assert painting is not None
        tint = uniform(seed, Purpose.VARIANT_TINT, position, (3, 1, 1))
        back = _enlarge((_crops(painting.pixels, position, seed) + tint) / 2, sprites.shape[-1])
        mixed = alpha * (1 - back) + (1 - alpha) * back
    return mixed.mul_(255).round_().to(torch.uint8)


def _enlarge(grid: Tensor, size: int) -> Tensor:
    """[..., 64, 64] -> [..., size, size], nearest."""
    return grid if size == GRID else grid.repeat_interleave(size // GRID, -1).repeat_interleave(size // GRID, -2)


def _crops(pixels: Tensor, position: Tensor, seed: int) -> Tensor:
    """A crop of the painting for each position: [B, 3, 64, 64]."""
    height, width = pixels.shape[1:]
    corner = _corners(seed, position, height - GRID + 1, width - GRID + 1)
    return torch.stack([pixels[:, y : y + GRID, x : x + GRID] for y, x in corner])


def _corners(seed: int, position: Tensor, rows: int, columns: int) -> list[list[int]]:
    """Draw the top-left corners (y, x) of the crops, y in [0, rows), x in [0, columns)."""
    both = bits(seed, Purpose.VARIANT_CROP, position, 2)
    corners: list[list[int]] = torch.stack(((both[:, 0] * rows) >> 32, (both[:, 1] * columns) >> 32), 1).tolist()
    return corners
