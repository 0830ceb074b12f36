"""Draw faces: factor values -> DiceBear's SVG -> resvg's pixels."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from common.arrays import Float64, UInt8
from common.errors import UserError
from data_shards.format.pyramid import pyramid

from .factors import Value, by_name, check_values
from .styles import DEFAULT, FaceStyle, open_style

if TYPE_CHECKING:
    from dicebear import Style

SMALLEST = 256  # px: smaller pictures are box means of one of this size, as the levels of a set are


def render(factors: Mapping[str, Value], size: int, style: str = DEFAULT) -> UInt8:
    """Draw a face: uint8 [size, size, 3].

    factors: a value for every factor of the style, by name: a variant's name, or a number in the factor's range (see
    `FaceStyle.factors`). size: a power of two, px. Raises UserError where a factor is missing, unknown or out of range.
    """
    if size < 1 or size & (size - 1):
        raise UserError(f"size is {size}; choose a power of two, px")
    opened = _opened(style)
    check_values(opened.factors, factors)
    return _draw(opened, factors, size)


def render_values(style: FaceStyle, values: Float64, size: int) -> UInt8:
    """Draw faces by their values [N, F] (see `draw_values`): uint8 [N, size, size, 3]."""
    images = np.empty((len(values), size, size, 3), np.uint8)
    for image, row in zip(images, values, strict=True):
        image[...] = _draw(style, by_name(style.factors, row), size)
    return images


def _draw(style: FaceStyle, factors: Mapping[str, Value], size: int) -> UInt8:
    import resvg_py

    drawn = max(size, SMALLEST)
    png = resvg_py.svg_to_bytes(svg_string=_svg(style, factors), width=drawn, height=drawn, skip_system_fonts=True)
    image = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
    return pyramid(image, [size])[size]


def _svg(style: FaceStyle, factors: Mapping[str, Value]) -> str:
    from dicebear import Avatar

    return Avatar(_definition(style), options_of(style, factors)).to_string()


def options_of(style: FaceStyle, factors: Mapping[str, Value]) -> dict[str, Any]:
    """Return DiceBear's options for a face: they set all parts, colours and the pose, so that no seed decides any."""
    options: dict[str, Any] = {}
    for factor in style.factors:
        options |= factor.options(factors[factor.name])
    return options


@lru_cache(8)
def _opened(style: str) -> FaceStyle:
    return open_style(style)


@lru_cache(8)
def _definition(style: FaceStyle) -> Style:
    """DiceBear's parsed definition, made once for a process."""
    from dicebear import Style

    return Style(json.loads(style.definition))
