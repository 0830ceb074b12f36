"""What tars of other tools hold beside plain images: rotated photos, masks, captions, what macOS adds."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from data_shards.read.loader import open_dataset
from tests.support.data_sets import attempt, deep_png, hashes, lines_of, refused, run
from tests.support.replicas import picture

SIZE = 64


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(seed: int) -> Image.Image:
    return picture(SIZE, SIZE, seed)


def mask(seed: int) -> bytes:
    return encoded(photo(100 + seed).convert("L").point(lambda v: 255 * (v > 127)))


def tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as stream:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            stream.addfile(info, io.BytesIO(data))
    return path


def pixels(root: Path) -> NDArray[np.uint8]:
    level = open_dataset(root, SIZE)
    return level.read_samples(np.arange(level.count)).permute(0, 2, 3, 1).numpy()


def unusable() -> dict[str, tuple[bytes, str]]:
    """One image of each kind that `make` refuses, with a word of its reason."""
    whole = encoded(photo(1))
    return {
        "a.jpg": (encoded(photo(1), "JPEG")[:-500], "truncated"),
        "b.png": (whole[: len(whole) // 2], "truncated"),
        "c.jpg": (encoded(photo(1).convert("CMYK"), "JPEG"), "is CMYK"),
        "d.png": (deep_png(SIZE), "16 bits"),
        "e.jpg": (encoded(photo(1), "JPEG", exif=rotated(6)), "EXIF-rotated"),
        "f.webp": (encoded(photo(1), "WEBP", exif=rotated(3)), "EXIF-rotated"),
        "g.png": (encoded(photo(1), exif=rotated(8)), "EXIF-rotated"),
        "h.png": (encoded(Image.new("RGBA", (SIZE, SIZE), (1, 2, 3, 100))), "transparent"),
        "i.png": (b"hello", "not a readable image"),
        "j.webp": (encoded(photo(1), "WEBP", save_all=True, append_images=[photo(2)]), "animated"),
    }


def rotated(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_index_refuses_what_make_refuses(tmp_path: Path) -> None:
    """The same files, in a folder for `make` and in a tar for `index`: every one is named, all at once."""
    bad = unusable()
    good = ("good.png", encoded(photo(2)))
    path = tar(tmp_path / "set/x.tar", [good, *((name, data) for name, (data, _) in bad.items())])
    (tmp_path / "src").mkdir()
    for name, (data, _) in bad.items():
        (tmp_path / "src" / name).write_bytes(data)
    before = hashes(tmp_path / "set")
    making, indexing = attempt("folder", tmp_path / "src"), run("index", tmp_path / "set")
    refused(making, f"{len(bad)} problems")
    refused(indexing, f"{len(bad)} problems", "write the tars again without them", "make folder")
    for name, (_, word) in bad.items():
        assert word in lines_of(making, f"  - {name}: ")
        assert word in lines_of(indexing, f"{path}: member {name} ")
    assert hashes(tmp_path / "set") == before


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_a_photo_that_is_stored_sideways_is_refused(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tar(
        tmp_path / "x.tar", [("0.jpg", encoded(photo(0), "JPEG", exif=exif)), ("1.jpg", encoded(photo(1), "JPEG"))]
    )
    refused(
        run("index", tmp_path), path, "member 0.jpg", f"orientation {orientation}", "exiftran", "write the tar again"
    )


def test_sideways_photos_in_a_set_that_an_older_version_indexed_are_found_by_check(tmp_path: Path) -> None:
    plain, turned = encoded(photo(0), "JPEG"), encoded(photo(0), "JPEG", exif=rotated(6))
    tar(tmp_path / "x.tar", [("0.jpg", plain), ("1.jpg", plain)])
    assert run("index", tmp_path).code == 0
    assert run("check", tmp_path, "--workers", 1).code == 0
    older_index(tmp_path, [("0.jpg", plain), ("1.jpg", turned)])
    refused(run("check", tmp_path, "--workers", 1), tmp_path / "x.tar", "1.jpg", "EXIF-rotated")


def older_index(root: Path, members: Sequence[tuple[str, bytes]]) -> None:
    """Index and manifest of these members, as a version wrote them that looked at headers alone."""
    from unittest import mock

    from data_shards.build import foreign_tars

    tar(root / "x.tar", members)
    with mock.patch.object(foreign_tars, "usable"):
        assert run("index", root).code == 0


@pytest.mark.parametrize(
    ("image", "beside"),
    [("jpg", "png"), ("png", "mask.png"), ("jpg", "seg.png"), ("image.png", "mask.png"), ("input.jpg", "output.png")],
)
def test_an_image_with_its_mask_is_one_sample_and_the_mask_is_named(tmp_path: Path, image: str, beside: str) -> None:
    kind = "JPEG" if image.endswith("jpg") else "PNG"
    images = [encoded(photo(i), kind) for i in range(4)]
    members = [pair for i in range(4) for pair in ((f"{i}.{beside}", mask(i)), (f"{i}.{image}", images[i]))]
    tar(tmp_path / "x.tar", [*members, ("4." + image, images[0])])
    outcome = run("index", tmp_path)
    assert outcome.code == 0, outcome.err
    assert f"left out, members beside the images: {beside} 4" in outcome.out
    wanted = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in [*images, images[0]]]
    np.testing.assert_allclose(pixels(tmp_path), wanted, atol=3)  # two decoders of JPEG
    assert run("check", tmp_path, "--workers", 1).code == 0
    before = hashes(tmp_path)
    assert run("index", tmp_path).code == 0
    assert hashes(tmp_path) == before


def test_of_two_views_the_named_one_is_taken(tmp_path: Path) -> None:
    members = [pair for i in range(3) for pair in ((f"{i}.left.png", i), (f"{i}.right.png", 10 + i))]
    tar(tmp_path / "x.tar", [(name, encoded(photo(seed))) for name, seed in members])
    refused(run("index", tmp_path), tmp_path / "x.tar", "has 2 images", "--image left.png")
    refused(run("index", tmp_path, "--image", "top.png"), "no member top.png", "name the extension")
    outcome = run("index", tmp_path, "--image", "right.png")
    assert "members beside the images: left.png 3" in outcome.out
    np.testing.assert_array_equal(pixels(tmp_path), [np.asarray(photo(10 + i)) for i in range(3)])
    assert run("check", tmp_path, "--workers", 1).code == 0
    assert run("index", tmp_path).code == 0, "the choice is kept in the manifest"


def test_a_mask_whose_image_is_missing_is_never_an_image(tmp_path: Path) -> None:
    pairs = [("0.jpg", encoded(photo(0), "JPEG")), ("0.png", mask(0))]
    tar(tmp_path / "one/x.tar", [*pairs, ("1.png", mask(1))])
    refused(run("index", tmp_path / "one"), tmp_path / "one/x.tar", "sample 1", "png", "write the tar again")
    tar(tmp_path / "two/x.tar", pairs)
    tar(tmp_path / "two/y.tar", [("1.png", encoded(photo(1)))])
    refused(run("index", tmp_path / "two"), "sample 1", "png", "write the tar again")


def test_captions_hidden_members_and_files_without_a_key_are_left_out_by_name(tmp_path: Path) -> None:
    members = []
    for i in range(3):
        members += [
            (f"./._{i}.png", b"\0\5\26\7"),
            (f"./{i}.png", encoded(photo(i))),
            (f"./{i}.txt", b"a photo"),
            (f"./{i}.json", json.dumps({"width": 64}).encode()),
        ]
    members += [("./.ipynb_checkpoints/9.png", encoded(photo(9))), ("./__MACOSX/8.png", b"x"), ("./LICENSE", b"x")]
    tar(tmp_path / "x.tar", members)
    tar(tmp_path / "._x.tar", [])
    outcome = run("index", tmp_path)
    assert outcome.code == 0, outcome.err
    level = open_dataset(tmp_path, SIZE)
    np.testing.assert_array_equal(pixels(tmp_path), [np.asarray(photo(i)) for i in range(3)])
    assert level.labels["width"].tolist() == [64] * 3
    notes = "\n".join(level.manifest.notes)
    for words in (
        "members beside the images: txt 3",
        "4 files hidden",
        "1 file that a system",
        "without one 1",
    ):
        assert words in notes
        assert words in outcome.out


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """`tar -r` appends a newer file beside the older one."""
    path = tar(tmp_path / "x.tar", [("0.png", encoded(photo(0))), ("1.png", b"old"), ("1.png", encoded(photo(1)))])
    refused(run("index", tmp_path), path, "member 1.png is there twice", "write the tar again")


def test_files_beside_the_tars_are_counted(tmp_path: Path) -> None:
    """As img2dataset leaves them, and tars of another split."""
    for name in ("x.tar", "val/y.tar", "val/z.tar"):
        tar(tmp_path / name, [("0.png", encoded(photo(0)))])
    for name in ("x_stats.json", "x.parquet", "sample.png", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    outcome = run("index", tmp_path)
    assert outcome.code == 0, outcome.err
    beside, hidden = open_dataset(tmp_path, SIZE).manifest.notes
    assert beside.startswith("left out, 5 files beside the tars: .tar 2, .json 1, .parquet 1, .png 1")
    assert hidden == "left out, 1 file hidden, or in hidden folders: .DS_Store 1"
    before = hashes(tmp_path)
    assert run("index", tmp_path).code == 0
    assert hashes(tmp_path) == before
