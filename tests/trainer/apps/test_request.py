"""What is typed is read as it is meant, or refused with the option, the value and the remedy."""

from __future__ import annotations

import pytest

from common.errors import UserError
from trainer.apps.request import MOST_IMAGES, grid_shape, seed_numbers, seeds_text


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0-3", (0, 1, 2, 3)),
        ("1,5,9-12", (1, 5, 9, 10, 11, 12)),
        (" 7 , 2-2", (7, 2)),
        ("4294967295", (4294967295,)),
    ],
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert seed_numbers(text) == seeds
    assert seed_numbers(seeds_text(seeds)) == seeds


def test_seeds_are_written_as_ranges() -> None:
    assert seeds_text((0, 1, 2, 9, 4, 5)) == "0-2,9,4-5"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no seed or range"),
        ("3-1", "'3-1' is no seed or range; write such as 0-63 or 1,5,9-12"),
        ("-1", "'-1' is no seed or range"),
        ("1,,2", "'' is no seed or range"),
        ("1.5", "'1.5' is no seed or range"),
        ("0-3,2", "has a seed twice"),
        ("4294967296", "4294967296 is too large; the last seed is 4294967295"),
        ("0-4000000000", f"4,000,000,001 images; ask for at most {MOST_IMAGES:,} at once"),
    ],
)
def test_what_is_no_list_of_seeds(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        seed_numbers(text)
    assert str(caught.value).startswith(f"--seeds: {text}: ")
    assert words in str(caught.value)


def test_a_grid_has_rows_and_columns_in_this_order() -> None:
    assert grid_shape("2x8", 16) == (2, 8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8", "is no grid"),
        ("0x8", "is no grid"),
        ("8x8x8", "is no grid"),
        ("50x50", "at most 1,024"),
        ("2x2", "for 4 of"),
    ],
)
def test_what_is_no_grid_for_these_images(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        grid_shape(text, 5)
    assert str(caught.value).startswith(f"--grid: {text}: ")
    assert words in str(caught.value)
