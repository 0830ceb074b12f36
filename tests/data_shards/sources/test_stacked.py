"""Stacked sprites: every channel is an image of dSprites, of one of ten classes, drawn alike and independently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_shards.format import manifest
from data_shards.sources.sprites.renderer import index_of, render
from data_shards.sources.sprites.stacked import CLASSES, MODES, draw, draw_classes
from tests.support.data_sets import Made, run


def test_ten_classes_no_two_of_which_look_alike() -> None:
    assert len(set(CLASSES)) == 10
    assert MODES == 1000
    for a, first in enumerate(CLASSES):
        for second in CLASSES[:a]:
            apart = abs(first.x - second.x) + abs(first.y - second.y) > 8
            assert apart or (first.shape != second.shape and abs(first.scale - second.scale) == 5)


def test_each_channel_is_the_image_of_dsprites_of_its_class_at_some_orientation() -> None:
    index = np.arange(12)
    images = draw(index, 64)
    assert images.shape == (12, 64, 64, 3)
    turned = set()
    for image, classes in zip(images, draw_classes(index), strict=True):
        for channel, number in enumerate(classes):
            shape, scale, x, y = CLASSES[number]
            all_turns = np.array([[shape, scale, turn, x, y] for turn in range(40)])
            same = (render(index_of(all_turns)) * 255 == image[..., channel]).all((1, 2))
            assert same.any()
            turned.add((number, int(same.argmax())))
    assert len(turned) > 25, "orientations differ"


def test_modes_are_equally_likely_and_channels_independent() -> None:
    """Chi-squared over the 1,000 combinations: 999 degrees of freedom, so 999 +- 45."""
    classes = draw_classes(np.arange(20_000))
    counts = np.bincount(classes @ np.array([1, 10, 100]), minlength=1000)
    assert abs(((counts - 20) ** 2 / 20).sum() - 999) < 4 * 45


def test_make_writes_the_same_images_whatever_the_count_and_says_what_they_are(tmp_path: Path) -> None:
    few, more = (Made(tmp_path / str(count), "stacked", "--count", count) for count in (5, 9))
    assert np.array_equal(few.pixels(), draw(np.arange(5), 64))
    assert np.array_equal(more.pixels()[:5], few.pixels())
    assert few.manifest.drawn_by == more.manifest.drawn_by is not None
    assert [(factor.name, factor.size) for factor in few.manifest.factors] == [
        ("red", 10),
        ("green", 10),
        ("blue", 10),
    ]
    assert manifest.making_command(few.manifest, few.root) == (
        f"python -m data_shards make stacked --out {few.root} --count 5 --resolutions 64"
    )
    assert run("check", few.root, "--workers", 1).code == 0
    large = Made(tmp_path / "large", "stacked", "--count", 2, "--resolutions", "128,64")
    assert large.pixels(128).shape == (2, 128, 128, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--count", 0], "--count is 0; choose 1 or more"), (["--resolutions", "32"], "need a level of 64 px or more")],
)
def test_no_images_and_too_small_ones_are_refused(tmp_path: Path, options: list[object], message: str) -> None:
    outcome = run("make", "stacked", "--out", tmp_path / "set", *options)
    assert outcome.code == 2
    assert message in outcome.err
