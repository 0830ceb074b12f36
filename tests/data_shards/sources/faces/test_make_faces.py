"""`make faces`: what it writes, that a face does not depend on the count, and what it refuses."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from data_shards.build import make_set
from data_shards.format import index, manifest
from data_shards.read.loader import open_dataset
from data_shards.sources.faces.faces import Faces
from data_shards.sources.faces.factors import Continuous, Palette, by_name, classes_of, draw_values
from data_shards.sources.faces.render import render
from data_shards.sources.faces.styles import open_style, open_style_of
from tests.support.data_sets import Outcome, box_mean, hashes, refused, run

STYLE = open_style()
CONTINUOUS = [factor.name for factor in STYLE.factors if isinstance(factor, Continuous)]


def make(out: Path) -> Outcome:
    """A set of twelve at 256 and 64 px, five in a shard. tests/data_shards/build/test_make.py takes two workers."""
    options = ("--resolutions", "256,64", "--samples-per-shard", 5)
    return run("make", "faces", "--out", out, "--count", 12, *options, "--workers", 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("faces") / "set"
    outcome = make(out)
    assert outcome.code == 0, outcome.err
    assert "12 images at 256 px, 64 px in 3 shards each" in outcome.out
    return out


def test_a_face_does_not_depend_on_the_count_nor_on_other_levels_up_to_256_px(made: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    assert run("make", "faces", "--out", few, "--count", 3, "--workers", 1).code == 0
    three = open_dataset(few, 64).read_samples(np.arange(3))
    np.testing.assert_array_equal(three, open_dataset(made, 64).read_samples(np.arange(3)))
    assert manifest.load(few).resolutions == (64,)


def test_a_set_may_begin_after_the_faces_of_another(made: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    assert run("make", "faces", "--out", later, "--first", 9, "--count", 3, "--workers", 1).code == 0
    three = open_dataset(later, 64)
    np.testing.assert_array_equal(
        three.read_samples(np.arange(3)), open_dataset(made, 64).read_samples(np.arange(9, 12))
    )
    assert three.labels["index"].tolist() == [9, 10, 11]
    np.testing.assert_array_equal(three.factors, open_dataset(made, 64).factors[9:])
    assert manifest.load(later).hash != manifest.load(made).hash


def test_pixels_are_those_of_render_and_lower_levels_box_means(made: Path) -> None:
    large = open_dataset(made, 256).read_samples(np.arange(12)).permute(0, 2, 3, 1).numpy()
    small = open_dataset(made, 64).read_samples(np.arange(12)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(small, box_mean(large, 64))
    for i, values in ((0, draw_values(STYLE.factors, np.arange(12))[0]), (11, draw_values(STYLE.factors, [11])[0])):
        named = by_name(STYLE.factors, values)
        np.testing.assert_array_equal(large[i], render(named, 256))
        np.testing.assert_array_equal(small[i], render(named, 64))


def annotations(made: Path) -> list[dict[str, Any]]:
    """The json members of the largest level, in order."""
    found = []
    for path in sorted((made / "256").glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]  # type: ignore[arg-type]
    return found


def test_values_and_classes_agree_in_json_index_and_recipe(made: Path) -> None:
    level, values = open_dataset(made, 256), draw_values(STYLE.factors, np.arange(12))
    assert [factor.name for factor in level.manifest.factors] == [factor.name for factor in STYLE.factors]
    assert level.labels["index"].tolist() == list(range(12))
    np.testing.assert_array_equal(level.factors, classes_of(STYLE.factors, values))
    of_continuous = values[:, [isinstance(factor, Continuous) for factor in STYLE.factors]]
    np.testing.assert_array_equal(level.factor_values, of_continuous)
    for i, note in enumerate(annotations(made)):
        assert note["name"] == f"{i:07d}"
        assert note["factors"] == dict(zip([f.name for f in STYLE.factors], level.factors[i].tolist(), strict=True))
        assert note["values"] == dict(zip(CONTINUOUS, of_continuous[i].tolist(), strict=True))


def test_check_and_info_know_it(made: Path) -> None:
    assert run("check", made, "--workers", 1).code == 0
    told = json.loads(run("info", made, "--json").out)
    assert (told["data_set"], told["factors"]["hair"], told["factors"]["x"]) == ("faces", 4, 20)
    assert told["ranges"] == {
        "skin": [0, 1], "hair_color": [0, 1], "clothes_hue": [0, 1], "background_hue": [0, 1], "x": [-8, 8],
        "y": [0, 6], "rotation": [-8, 8], "scale": [0.85, 0.95],
    }  # fmt: skip
    assert told["circular"] == ["clothes_hue", "background_hue"]
    for words in (" ".join(told["notes"]), run("info", made).out, run("check", made, "--workers", 1).out):
        for fact in ("Johan Melin", "CC BY 4.0", "figma.com/community/file/1589627891082866389"):
            assert fact in words


def test_a_lost_index_comes_back_as_it_was(made: Path) -> None:
    """With the values of the continuous factors, which the manifest names."""
    before = hashes(made)
    (made / "256" / index.FILE).unlink()
    (made / "64" / index.FILE).unlink()
    assert run("index", made).code == 0
    assert hashes(made) == before


def other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "9.9.9" if name == "resvg-py" else real(name))


def test_a_complete_set_of_other_versions_is_refused(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "already complete" in make(made).out
    before, version = hashes(made), metadata.version("resvg-py")
    other_versions(monkeypatch)
    refused(make(made), f"--out is {made}", f"resvg-py: {version} there, 9.9.9 now", "choose another folder")
    assert hashes(made) == before


def test_an_unfinished_set_of_other_versions_is_not_gone_on_with(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, version = tmp_path / "set", metadata.version("resvg-py")
    with monkeypatch.context() as interrupted:
        interrupted.setattr(make_set.index, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert make(out).code == 75
    assert not (out / "manifest.json").exists()
    with monkeypatch.context() as newer:
        other_versions(newer)
        refused(make(out), f"--out is {out}", f"resvg-py: {version} there, 9.9.9 now", "choose another folder")
    assert make(out).code == 0
    assert hashes(out) == hashes(made)


def test_whatever_decides_pixels_is_part_of_the_recipe() -> None:
    """The definition, and the table of factors with its ranges and palettes."""
    skin = next(factor for factor in STYLE.factors if isinstance(factor, Palette))
    paler = tuple(replace(f, stops=(*f.stops[:-1], "#ffffff")) if f is skin else f for f in STYLE.factors)
    styles = [STYLE, replace(STYLE, definition=STYLE.definition + " "), replace(STYLE, factors=paler)]
    recipes = [Faces(style, np.arange(2), 64).recipe for style in styles]
    recipes.append(Faces(STYLE, np.arange(2), 512).recipe)
    assert len({json.dumps(recipe) for recipe in recipes}) == 4
    assert Faces(STYLE, np.arange(2), 256).recipe == recipes[0]


def test_a_sets_style_is_opened_only_where_it_would_draw_the_same(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, version = manifest.load(made).recipe, metadata.version("resvg-py")
    assert open_style_of(recipe) == STYLE
    other_versions(monkeypatch)
    with pytest.raises(UserError, match=rf"resvg-py {version} then, 9\.9\.9 now.*another folder"):
        open_style_of(recipe)


def test_bad_input(tmp_path: Path) -> None:
    out = tmp_path / "set"
    for options, words in (
        (("--count", 0), ("--count is 0", "1 or more")),
        (("--count", -3), ("--count is -3", "1 or more")),
        (("--first", 9_999_999, "--count", 2), ("--first 9999999", "below 10,000,000")),
        (("--resolutions", "256,100"), ("--resolutions is 256,100", "100 is not a power of two")),
        (("--style", "toonhead"), ("--style is toonhead", "no such style", "toon-head")),
        (("--style", "bottts"), ("--style is bottts", "licence", "toon-head")),
    ):
        refused(run("make", "faces", "--out", out, *options), *words)
    assert not out.exists()


def test_another_style_has_parts_and_a_licence_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert run("make", "faces", "--out", out, "--count", 2, "--style", "miniavs", "--workers", 1).code == 0
    stored = manifest.load(out)
    assert (stored.data_set, stored.recipe["style"]) == ("faces-miniavs", "miniavs")
    assert "Webpixels" in stored.notes[0]
    assert {"hair", "mustache", "skin_color", "x"} <= {factor.name for factor in stored.factors}
    assert run("check", out, "--workers", 1).code == 0
