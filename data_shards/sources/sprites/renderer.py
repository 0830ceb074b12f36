"""dSprites (Matthey et al., 2017) drawn from its factors, exactly; the same outlines at 128 to 1024 px, anti-aliased.

The published 737,280 images are binary 64x64 drawings of three outlines. Of 74,080 of them, the rule below gives 74,075
bit for bit, among them all 256 whose hashes the tests hold. The other 5 differ in one pixel. In image 94,091 it is
[row 34, column 43], which is published as on: the outline passes within 0.0001 px of its centre. Other orders of the
float32 operations, and other roundings of ties at 1/256 px, draw that image and the 256 as published too, and change 6
to 99 other images. Which of them is right cannot be told without the published file.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from common.arrays import Float32, Float64, Int64, UInt8

FACTOR_NAMES = ("shape", "scale", "orientation", "pos_x", "pos_y")
FACTOR_SIZES = (3, 6, 40, 32, 32)
COUNT = 737_280
SHAPES = ("square", "ellipse", "heart")
THETAS = np.linspace(0.0, 2.0 * np.pi, 40)  # inclusive: orientations 0 and 39 are the same image
_BASES = np.array([245_760, 40_960, 1_024, 32, 1])
_SUBROWS = 4  # scan lines per pixel row above 64 px; along a row the coverage is exact


class Factors(NamedTuple):
    """Factor values, each [N]: shape class 0..2, scale 0.5..1, orientation in radians, x and y in [0, 1]."""

    shape: Int64
    scale: Float32
    theta: Float64
    x: Float32
    y: Float32


def classes(index: ArrayLike) -> Int64:
    """Return the factor classes of dataset indices: int64 [N] in [0, 737280) -> int64 [N, 5], pos_y the fastest."""
    return np.asarray(index, np.int64)[:, None] // _BASES % np.array(FACTOR_SIZES)


def index_of(factor_classes: Int64) -> Int64:
    """Return dataset indices, the inverse of `classes`: int64 [N, 5] -> int64 [N]."""
    return factor_classes @ _BASES


def factors_of(factor_classes: Int64) -> Factors:
    """Return the factor values of factor classes int64 [N, 5]."""
    shape, scale, orientation, x, y = factor_classes.T
    grid = np.linspace(0.0, 1.0, 32).astype(np.float32)
    scales = np.float32(0.5) + np.float32(0.1) * np.arange(6, dtype=np.float32)
    return Factors(shape, scales[scale], THETAS[orientation], grid[x], grid[y])


@lru_cache(maxsize=1)
def _outlines() -> tuple[Float32, ...]:
    """The three outlines at scale 1 around the origin, in units of the canvas: float32 [V, 2] each, y down."""
    square = np.array([[-9.6, -9.6], [9.6, -9.6], [9.6, 9.6], [-9.6, 9.6]])
    t = 2.0 * np.pi * np.arange(100) / 100
    ellipse = np.stack([9.6 * 1.33 * np.cos(t), 9.6 / 1.33 * np.sin(t)], 1)
    t = 2.0 * np.pi * np.arange(150) / 150
    height = (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 29 + 0.075
    heart = np.stack([9.6 * np.sin(t) ** 3, -19.2 * height], 1)
    return tuple((points / 64.0).astype(np.float32) for points in (square, ellipse, heart))


def _vertices(outline: Float32, factors: Factors) -> Float64:
    """Vertices on the 64 px canvas: float64 [N, V, 2]. The float32 operations stand in OpenGL's order."""
    scale, cos, sin = (
        a.astype(np.float32)[:, None] for a in (factors.scale, np.cos(factors.theta), np.sin(factors.theta))
    )
    half, quarter = np.float32(0.5), np.float32(0.25)
    px, py = outline[:, 0] * scale, outline[:, 1] * scale
    x = (px * cos + py * sin) + (quarter + half * factors.x[:, None])
    y = (px * -sin + py * cos) + (quarter + half * factors.y[:, None])
    one, two, c32, c64 = (np.float32(v) for v in (1, 2, 32, 64))
    device = np.stack([(x * two - one) * c32 + c32, c64 - ((one - two * y) * c32 + c32)], -1)
    return device.astype(np.float64)


class _Crossings(NamedTuple):
    """Every crossing of an edge with a scan line: image, scan line, x numerator and denominator, direction."""

    image: Int64
    row: Int64
    numerator: Int64
    denominator: Int64
    sign: Int64


def _crossings(vertices: Float64, rows_per_px: int) -> _Crossings:
    """Crossings with the scan lines at (row + 1/2) / rows_per_px. vertices: [N, V, 2] in px.

    Vertices snap to 1/256 px, as OpenGL's do; x = numerator / denominator is exact, in 1/256 px. An edge covers
    the scan lines with min(y0, y1) < y <= max(y0, y1).
    """
    unit = 256
    points = np.rint(vertices * unit).astype(np.int64)
    ends = np.roll(points, -1, axis=1)
    y0, y1 = points[..., 1] * rows_per_px, ends[..., 1] * rows_per_px
    first = np.minimum(y0, y1) - unit // 2
    last = np.maximum(y0, y1) - unit // 2
    first, last = first // unit + 1, last // unit  # rows r with first <= r <= last
    counts = np.maximum(last - first + 1, 0)
    image, edge = np.nonzero(counts)
    repeats = counts[image, edge]
    start = np.repeat(np.cumsum(repeats) - repeats, repeats)
    image, edge = np.repeat(image, repeats), np.repeat(edge, repeats)
    row = first[image, edge] + np.arange(len(image)) - start
    x0, x1 = points[image, edge, 0], ends[image, edge, 0]
    low, high = y0[image, edge], y1[image, edge]
    sign = np.sign(high - low)
    numerator = x0 * np.abs(high - low) + (row * unit + unit // 2 - low) * (x1 - x0) * sign
    return _Crossings(image, row, numerator, np.abs(high - low), sign)


def _raster_binary(vertices: Float64) -> UInt8:
    """A pixel is on where its centre is inside (even-odd); a centre on a left crossing is inside. -> [N, 64, 64]."""
    count, size = len(vertices), 64
    c = _crossings(vertices, 1)
    column = -((128 * c.denominator - c.numerator) // (256 * c.denominator))  # first centre at or right of x
    flat = (c.image * size + c.row) * (size + 1) + column
    toggles = np.bincount(flat, minlength=count * size * (size + 1)).astype(np.uint8)
    parity = np.bitwise_xor.accumulate(toggles.reshape(count, size, size + 1) & 1, axis=2)
    return np.ascontiguousarray(parity[..., :size])


def _raster_smooth(vertices: Float64, size: int) -> UInt8:
    """Coverage of each pixel, rounded to 0..255 -> [N, size, size]: exact along x, _SUBROWS scan lines a pixel."""
    count, rows = len(vertices), size * _SUBROWS
    c = _crossings(vertices * (size / 64), _SUBROWS)
    x = c.numerator / (256.0 * c.denominator)
    column = np.floor(x).astype(np.int64)
    flat = (c.image * size + c.row // _SUBROWS) * (size + 2) + column
    area = np.zeros(count * size * (size + 2))
    weight = -c.sign.astype(np.float64)  # the outlines run so that a left crossing adds
    np.add.at(area, flat, weight * (column + 1 - x))
    np.add.at(area, flat + 1, weight * (x - column))
    coverage = np.cumsum(area.reshape(count, size, size + 2), axis=2)[..., :size] * (size / rows)
    return np.rint(np.abs(coverage) * 255.0).clip(0, 255).astype(np.uint8)


def _rows(factors: Factors, rows: Int64) -> Factors:
    return Factors(*(np.asarray(f)[rows] for f in factors))  # type: ignore[arg-type]


def render_factors(factors: Factors, size: int = 64) -> UInt8:
    """Draw sprites with any factor values. size: 64 (binary, 0/1) or a larger power of two (0..255, anti-aliased).

    Returns uint8 [N, size, size]. Raises ValueError for another size.
    """
    if size < 64 or size & (size - 1):
        raise ValueError(f"size {size} is not a power of two of at least 64")
    images = np.empty((len(factors.shape), size, size), np.uint8)
    for shape, outline in enumerate(_outlines()):
        chosen = np.flatnonzero(factors.shape == shape)
        step = max(1, 64 * 64 * 256 // size**2)  # bounds the scratch memory
        for rows in (chosen[i : i + step] for i in range(0, len(chosen), step)):
            vertices = _vertices(outline, _rows(factors, rows))
            images[rows] = _raster_binary(vertices) if size == 64 else _raster_smooth(vertices, size)
    return images


def render(index: ArrayLike, size: int = 64) -> UInt8:
    """Draw images of dSprites by dataset index. index: int [N] in [0, 737280).

    Returns uint8 [N, size, size]: 0/1 at 64 px (the published bits), 0..255 anti-aliased above.
    """
    index = np.asarray(index, np.int64)
    if index.size and (index.min() < 0 or index.max() >= COUNT):
        raise ValueError(f"dSprites indices lie in [0, {COUNT})")
    return render_factors(factors_of(classes(index)), size)
