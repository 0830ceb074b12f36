"""Drawing: every variant shows, nothing but the factors decides a pixel, and the head stays in the picture."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from importlib import metadata
from typing import Any

import numpy as np
import pytest
import resvg_py
from dicebear import Avatar, Style
from dicebear.validator import StyleValidator
from PIL import Image

from common.errors import UserError
from data_shards.sources.faces import styles
from data_shards.sources.faces.factors import Continuous, Hue, Palette, Part, by_name, draw_values
from data_shards.sources.faces.render import options_of, render, render_values
from data_shards.sources.faces.styles import open_style, usable_styles
from tests.support.data_sets import box_mean

TOON_HEAD = open_style()
FACE: dict[str, float | str] = {
    "hair": "undercut", "rear_hair": "none", "eyes": "wide", "eyebrows": "neutral", "mouth": "smile", "beard": "none",
    "clothes": "tShirt", "skin": 0.7, "hair_color": 0.2, "clothes_hue": 0.6, "background_hue": 0.1, "x": 0.0, "y": 3.0,
    "rotation": 0.0, "scale": 0.9,
}  # fmt: skip
OF_64_AT_256_PX = "dcf45748e1ec96ee97a6fa72a8f2244b0be009edc6cc261640c4cf9f414f3567"
OF_4_AT_1024_PX = "36b294eabd8030894f65c08ebbd83cacc373a949045f8b53c997bbfb9222cf55"
USABLE = [
    "adventurer", "adventurer-neutral", "big-ears", "big-ears-neutral", "big-smile", "croodles", "croodles-neutral",
    "cutouts", "fun-emoji", "lorelei", "lorelei-neutral", "miniavs", "notionists", "notionists-neutral", "open-peeps",
    "personas", "pixel-art", "pixel-art-neutral", "pixelbot", "sprouts", "toon-head",
]  # fmt: skip


def test_every_variant_is_one_of_the_style_and_changes_the_picture() -> None:
    """DiceBear drops a name that it does not know, silently: a misspelt hair is a bald head."""
    components = json.loads(TOON_HEAD.definition)["components"]
    for factor in TOON_HEAD.factors:
        if not isinstance(factor, Part):
            continue
        assert set(factor.variants) - {"none"} <= set(components[factor.component]["variants"])
        images = [render(FACE | {factor.name: variant}, 256).astype(int) for variant in factor.variants]
        for a, b in itertools.combinations(images, 2):
            assert ((a - b).max(2) != 0).sum() > 30, factor.name


def test_every_continuous_factor_changes_the_picture() -> None:
    for factor in TOON_HEAD.factors:
        if isinstance(factor, Continuous):
            low, middle = (
                render(FACE | {factor.name: factor.low + s * (factor.high - factor.low)}, 64) for s in (0, 0.5)
            )
            assert (low != middle).any(2).mean() > 0.02, factor.name


def test_colours_are_those_of_the_definition() -> None:
    """Of the background, HSV (h, 0.35, 0.95); of the palettes, their ends and their middle stop."""
    corner = render(FACE | {"background_hue": 1 / 3}, 64)[0, 0]
    assert corner.tolist() == [157, 242, 157]
    for factor in TOON_HEAD.factors:
        if isinstance(factor, Palette):
            first, *_, last = factor.stops
            assert [factor.options(t) for t in (0, 0.5, 1)] == [
                {factor.option: [colour]} for colour in (first, factor.stops[1], last)
            ]
            lightness = [sum(int(stop[i : i + 2], 16) for i in (1, 3, 5)) for stop in factor.stops]
            assert lightness == sorted(lightness), "from dark to light"
        if isinstance(factor, Hue):
            assert factor.options(0) == factor.options(1)


def test_the_head_stays_in_the_picture_and_no_patch_shows_below_the_clothes() -> None:
    """At the extremes of the pose, at which the bun is next to the upper edge and clothes end next to the lower one."""
    for hair, rotation in itertools.product(("bun", "spiky"), (-8.0, 8.0)):
        image = render(FACE | {"hair": hair, "rotation": rotation, "y": 0.0, "scale": 0.95, "x": rotation}, 256)
        background = image[0, 0]
        assert (image[:2] == background).all()
        assert (image[:150, [0, 1, -2, -1]] == background).all()
    for clothes, rotation in itertools.product(("openJacket", "shirt", "tShirt", "turtleNeck"), (-8.0, 8.0)):
        image = render(FACE | {"clothes": clothes, "rotation": rotation, "y": 0.0, "scale": 0.85}, 256)
        above, lowest = ((row != image[0, 0]).any(1) for row in image[[-8, -1]])
        assert above.sum() > 80
        assert lowest[above].mean() > 0.98, "the sleeves bend inwards by a pixel or two"


def test_pixels_are_those_of_the_pinned_packages() -> None:
    """64 faces at 256 px, whose means are the smaller ones, and 4 at 1024 px."""
    values = draw_values(TOON_HEAD.factors, np.arange(64))
    images = render_values(TOON_HEAD, values, 256)
    assert hashlib.sha256(images.tobytes()).hexdigest() == OF_64_AT_256_PX
    large = render_values(TOON_HEAD, values[:4], 1024)
    assert hashlib.sha256(large.tobytes()).hexdigest() == OF_4_AT_1024_PX
    for i in range(2):
        named = by_name(TOON_HEAD.factors, values[i])
        np.testing.assert_array_equal(render(named, 256), images[i])
        np.testing.assert_array_equal(render(named, 64), box_mean(images[i : i + 1], 64)[0])


def drawn(style: Style, options: dict[str, Any], size: int = 64) -> bytes:
    """Pixels by DiceBear and resvg themselves."""
    png = resvg_py.svg_to_bytes(svg_string=Avatar(style, options).to_string(), width=size, height=size)
    return Image.open(io.BytesIO(bytes(png))).convert("RGB").tobytes()


def test_every_usable_style_is_decided_by_its_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a seed nor `idRandomization` changes a pixel; and each has parts, an artist and a licence.

    DiceBear's check of a definition is left out: it takes most of the time.
    """
    monkeypatch.setattr(StyleValidator, "validate", lambda data: None)
    for style in map(open_style, USABLE):
        names = [factor.name for factor in style.factors]
        assert len(set(names)) == len(names)
        assert sum(isinstance(factor, Part) for factor in style.factors) >= 2
        one, other = (
            options_of(style, by_name(style.factors, row)) for row in draw_values(style.factors, np.array([0, 1]))
        )
        content = json.loads(style.definition)
        definition, meta = Style(content), content["meta"]
        seeded = {drawn(definition, one | {"seed": s, "idRandomization": s == "b"}) for s in ("", "a", "b")}
        assert len(seeded) == 1, style.name
        assert seeded != {drawn(definition, other)}, style.name
        for fact in (meta["creator"]["name"], meta["license"]["name"], meta["license"]["url"], meta["source"]["url"]):
            assert fact in style.attribution


def test_the_other_styles_are_refused_with_their_reason() -> None:
    """Which of all definitions can be used is written here by hand."""
    assert usable_styles() == USABLE
    for name, reason in (
        ("avataaars", 'licence is "Free for personal and commercial use"'),
        ("avataaars-neutral", "licence"),
        ("bottts", "licence"),
        ("bottts-neutral", "licence"),
        ("micah", r"colours exclude each other \(base, .*shirt\)"),
        ("stripes", "draws no faces"),
        ("moods", r"parts are moved at random \(.*\)"),
        ("toonhead", "there is no such style; choose from .*toon-head"),
    ):
        with pytest.raises(UserError, match=f"--style is {name}: .*{reason}"):
            open_style(name)


def test_a_size_that_is_no_power_of_two_is_refused() -> None:
    for size in (0, 100, -64):
        with pytest.raises(UserError, match=f"size is {size}; choose a power of two"):
            render(FACE, size)
    with pytest.raises(UserError, match=r"scale is 1.0; choose a number from 0.85 to 0.95"):
        render(FACE | {"scale": 1.0}, 64)


@pytest.mark.parametrize("package", styles.PACKAGES)
def test_a_missing_package_is_one_clear_error(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def hidden(name: str) -> str:
        if name == package:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", hidden)
    with pytest.raises(UserError, match=rf"{package}, which is not installed; .* pip install .*\[faces\]"):
        open_style()
