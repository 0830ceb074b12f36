"""The factors of face i: uniform, independent, within their ranges, and one of the classes that a set says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare, kstest

from common.errors import UserError
from data_shards.sources.faces.factors import BINS, Continuous, Part, centres, check_values, classes_of, draw_values
from data_shards.sources.faces.styles import open_style

FACTORS = open_style().factors
VALUES = draw_values(FACTORS, np.arange(20_000))
CLASSES = classes_of(FACTORS, VALUES)


def test_the_factors_of_the_manifest() -> None:
    """Written by hand: names, classes, ranges, and which are circular."""
    discrete = {f.name: f.size for f in FACTORS if isinstance(f, Part)}
    assert discrete == {
        "hair": 4, "rear_hair": 5, "eyes": 5, "eyebrows": 5, "mouth": 4, "beard": 6, "clothes": 4,
    }  # fmt: skip
    ranges = {f.name: (f.low, f.high, f.circular) for f in FACTORS if isinstance(f, Continuous)}
    assert ranges == {
        "skin": (0, 1, False), "hair_color": (0, 1, False), "clothes_hue": (0, 1, True),
        "background_hue": (0, 1, True), "x": (-8, 8, False), "y": (0, 6, False), "rotation": (-8, 8, False),
        "scale": (0.85, 0.95, False),
    }  # fmt: skip
    for factor in FACTORS:
        described = factor.described
        assert (described.name, described.size) == (factor.name, factor.size)
        if isinstance(factor, Part):
            assert (described.values, described.range, described.circular) == (factor.variants, None, False)
        else:
            assert (described.size, described.values) == (BINS, None)
            assert (described.range, described.circular) == ((factor.low, factor.high), factor.circular)


def test_values_lie_in_their_ranges_and_are_uniform() -> None:
    for column, factor in zip(VALUES.T, FACTORS, strict=True):
        if isinstance(factor, Part):
            assert set(column) == set(range(factor.size))
            continue
        assert factor.low <= column.min()
        assert column.max() <= factor.high
        assert kstest(column, "uniform", (factor.low, factor.high - factor.low)).pvalue > 1e-3, factor.name


def test_classes_are_equal_bins_of_the_range() -> None:
    for column, classes, factor in zip(VALUES.T, CLASSES.T, FACTORS, strict=True):
        if isinstance(factor, Part):
            np.testing.assert_array_equal(classes, column)
            continue
        edges = np.linspace(factor.low, factor.high, 21)[1:-1]
        inside = np.abs(column[:, None] - edges).min(1) > 1e-9  # on an edge either bin is right
        np.testing.assert_array_equal(classes[inside], np.digitize(column[inside], edges))
        ends = np.array([factor.low, factor.high])
        assert classes_of([factor], ends[:, None]).ravel().tolist() == [0, 19]
    np.testing.assert_array_equal(classes_of(FACTORS, centres(FACTORS, CLASSES)), CLASSES)


def test_classes_are_balanced_and_pairs_independent() -> None:
    """Chi-squared over 20,000 faces: 15 marginals and 105 pairs, so the smallest of all p is about 0.01."""
    for classes, factor in zip(CLASSES.T, FACTORS, strict=True):
        assert chisquare(np.bincount(classes, minlength=factor.size)).pvalue > 1e-3, factor.name
    for (a, first), (b, second) in itertools.combinations(enumerate(FACTORS), 2):
        table = np.zeros((first.size, second.size))
        np.add.at(table, (CLASSES[:, a], CLASSES[:, b]), 1)
        assert chi2_contingency(table).pvalue > 1e-4, (first.name, second.name)


def test_a_face_is_a_function_of_its_number() -> None:
    some = np.array([19_999, 3, 7, 2**31])
    np.testing.assert_array_equal(draw_values(FACTORS, some)[:3], VALUES[some[:3]])


def test_values_that_no_face_has_are_refused() -> None:
    """Each with the factor, the value and what it could be."""
    face: dict[str, float | str] = {f.name: f.variants[0] if isinstance(f, Part) else f.low for f in FACTORS}
    check_values(FACTORS, face)
    check_values(FACTORS, face | {"x": np.float32(2), "y": 3})
    for wrong, words in (
        ({"scale": 1.0}, ["scale", "1.0", "0.85 to 0.95"]),
        ({"x": float("nan")}, ["x", "nan", "-8 to 8"]),
        ({"skin": "#ffffff"}, ["skin", "#ffffff", "0 to 1"]),
        ({"hair": "bunn"}, ["hair", "bunn", "bun, sideComed, spiky, undercut"]),
        ({"clothes": "dress"}, ["clothes", "dress", "openJacket"]),
        ({"mouth": "sad"}, ["mouth", "sad", "smile"]),
        ({"hairs": "bun"}, ["hairs", "not known", "rear_hair"]),
    ):
        with pytest.raises(UserError) as error:
            check_values(FACTORS, face | wrong)
        assert all(word in str(error.value) for word in words), error.value
    with pytest.raises(UserError, match="factors beard, scale: not given"):
        check_values(FACTORS, {name: value for name, value in face.items() if name not in ("beard", "scale")})
