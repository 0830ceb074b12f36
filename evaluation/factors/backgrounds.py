"""What Scream's factor network is trained and tested on: many textures, and pictures at several sizes.

A texture is a pure function of its number. Pixels are uint8 [3, 274, 350], the size to which `load_painting` shrinks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.arrays import Float64
from common.random_numbers import Purpose, integers
from data_shards.read.dsprites_variants import PROCEDURAL, Painting, draw, load_painting
from data_shards.sources.sprites.renderer import COUNT, classes, factors_of, render

from .extractor import Extractor
from .factor_network import FactorExtractor

log = logging.getLogger(__name__)
LOOKED_AT = 512  # sprites on a painting
KNOWN_SHAPES, KNOWN_PX = 0.95, 1.0  # share of shapes and error of the position, of a painting that the network knows
HEIGHT, WIDTH = 274, 350
Random = np.random.Generator


def texture(number: int) -> Tensor:
    """Draw a texture of one of four kinds in turn: bands, 1/f noise, overlapping discs, cells."""
    random = np.random.default_rng([18, number])
    picture = list(KINDS.values())[number % len(KINDS)](random)
    return torch.from_numpy((picture.clip(0, 1) * 255).round().astype(np.uint8)).permute(2, 0, 1).contiguous()


def _bands(random: Random) -> Float64:
    """Warped bands and finer strokes between three colours."""
    y, x = np.meshgrid(np.linspace(0, 1, HEIGHT), np.linspace(0, 1.28, WIDTH), indexing="ij")
    warp = sum(0.1 * np.sin(2 * np.pi * (f[0] * x + f[1] * y + f[2])) for f in random.uniform(-3, 3, (3, 3)))
    angle, coarse, fine = random.uniform(0, 2 * np.pi), random.uniform(2, 8), random.uniform(12, 40)
    along = np.cos(angle) * x + np.sin(angle) * y + warp
    first, second, third = _colours(random, 3)
    mix = 0.5 + 0.5 * np.sin(2 * np.pi * coarse * along)[..., None]
    strokes = random.uniform(0, 0.5) * np.sin(2 * np.pi * fine * (along + 0.6 * warp))[..., None]
    picture: Float64 = mix * first + (1 - mix) * second + strokes * third
    return picture


def _noise(random: Random) -> Float64:
    """Noise whose amplitude falls with frequency^-a, a from 0.5 to 2, its channels mixed at random."""
    rows, columns = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    amplitude = np.maximum(np.hypot(rows, columns), 1 / WIDTH) ** -random.uniform(0.5, 2)
    spectrum = np.fft.rfft2(random.normal(size=(HEIGHT, WIDTH, 3)), axes=(0, 1)) * amplitude[..., None]
    noise = np.fft.irfft2(spectrum, (HEIGHT, WIDTH), axes=(0, 1))
    noise = (noise - noise.mean((0, 1))) / noise.std((0, 1))
    picture: Float64 = _colours(random, 1) + random.uniform(0.1, 0.3) * noise @ random.uniform(-1, 1, (3, 3))
    return picture


def _discs(random: Random) -> Float64:
    """Discs over each other, few large ones and many small ones: the edges of occlusion, as photographs have them."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.ones((HEIGHT, WIDTH, 3)) * _colours(random, 1)
    count = int(random.integers(60, 300))
    radii = np.sort(5 * random.uniform(0.05, 1, count) ** -1)[::-1]
    for radius, cy, cx in zip(radii, random.uniform(0, HEIGHT, count), random.uniform(0, WIDTH, count), strict=True):
        picture[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = _colours(random, 1)
    return picture


def _cells(random: Random) -> Float64:
    """Cells around random points, shaded by the distance from theirs."""
    points = random.uniform(0, 1, (int(random.integers(30, 200)), 2)) * (HEIGHT, WIDTH)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    squares = (y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2
    shade = random.uniform(-0.02, 0.02) * np.sqrt(squares.min(-1))[..., None]
    picture: Float64 = _colours(random, len(points))[squares.argmin(-1)] + shade
    return picture


KINDS: dict[str, Callable[[Random], Float64]] = {"bands": _bands, "noise": _noise, "discs": _discs, "cells": _cells}


def _colours(random: Random, count: int) -> Float64:
    """Colours between a random one and others: [count, 3] in [0, 1]."""
    spread = random.uniform(0.2, 1)
    picked: Float64 = (1 - spread) * random.uniform(0, 1, 3) + spread * random.uniform(0, 1, (count, 3))
    return picked


def views(picture: Path, count: int) -> list[Tensor]:
    """Return a picture as `load_painting` shrinks it, and with other sizes, flips, channels and contrast: uint8 each.

    Raises UserError where it is no picture, or too small.
    """
    as_used = (load_painting(picture).pixels * 255).round().to(torch.uint8)
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    found = [as_used]
    for number in range(1, count):
        random = np.random.default_rng([19, number])
        size = random.uniform(0.7, 1.6)
        small = image.copy()
        small.thumbnail((max(64, int(WIDTH * size)), max(64, int(HEIGHT * size))))
        pixels = (np.asarray(small) / 255) ** random.uniform(0.6, 1.6)
        pixels = pixels[:: random.choice((-1, 1)), :: random.choice((-1, 1)), random.permutation(3)]
        if min(pixels.shape[:2]) >= 64:
            found.append(torch.from_numpy((pixels * 255).round().astype(np.uint8)).permute(2, 0, 1).contiguous())
    return found


def accuracy(extractor: FactorExtractor, painting: Painting, indices: Tensor, seed: int = 0) -> dict[str, float]:
    """Measure what the network reads from sprites drawn on a painting. indices: int64 [N] of sprites of dSprites.

    Returns the share of shapes that are right, the mean error of the position in px at 64 px, and that of the scale.
    """
    sprites = torch.from_numpy(render(indices.numpy())).unsqueeze(1) * 255
    images = draw("scream", sprites, indices, torch.zeros_like(indices), seed, painting)
    truth, prediction = factors_of(classes(indices.numpy())), extractor.extract(images)[1]
    gaps = [(p.numpy() - t) * 32 for p, t in ((prediction.x, truth.x), (prediction.y, truth.y))]
    return {
        "shape": float((prediction.shape.argmax(1).numpy() == truth.shape).mean()),
        "position_px": float(np.hypot(*gaps).mean()),
        "scale": float(np.abs(prediction.scale.numpy() - truth.scale).mean()),
    }


def warn_of_painting(extractor: Extractor, painting: Painting | None) -> None:
    """Warn where the factor network reads sprites badly on a painting, or on the texture in its place.

    painting: None where the images have none.
    """
    if painting is None or not isinstance(extractor, FactorExtractor):
        return
    indices = integers(0, Purpose.EVAL_FACTORS, torch.arange(LOOKED_AT), (), COUNT)
    found = accuracy(extractor, painting, indices)
    if found["shape"] < KNOWN_SHAPES or found["position_px"] > KNOWN_PX:
        log.warning(
            "warning: painting: on %s the factor network reads %.0f%% of the shapes, and places with an error of "
            "%.1f px: FID and readings say less there than on other paintings",
            "the texture in its place" if painting.source == PROCEDURAL else painting.source,
            100 * found["shape"],
            found["position_px"],
        )


def pool(pictures: Sequence[Path], textures: int) -> list[Tensor]:
    """Return uint8 pictures to draw sprites on: the first textures, and about as many views of the pictures."""
    drawn = [texture(number) for number in range(textures)]
    return drawn + [view for picture in pictures for view in views(picture, textures // len(pictures))]
