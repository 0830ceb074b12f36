"""Zips and parquet files with something wrong: archive and member are named, and nothing is unpacked to disk."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_shards.read.loader import open_dataset
from data_shards.sources.containers import folder_and_zip
from data_shards.sources.containers import parquet as parquet_store
from tests.data_shards.build.test_bad_input import offenders
from tests.support import replicas
from tests.support.data_sets import Made, attempt, lines_of, refused


def test_offenders_in_a_zip_are_listed_with_archive_and_member(tmp_path: Path) -> None:
    bad = offenders(tmp_path / "src/dogs")
    replicas.picture(150, 140, 1).save(tmp_path / "src/good.png")
    shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "src")
    outcome = attempt("folder", tmp_path / "photos.zip", size=128)
    refused(outcome, f"{len(bad)} problems", "--on-bad skip")
    for name, words in bad.items():
        line = lines_of(outcome, f"photos.zip: member dogs/{name}: ")
        assert all(word in line for word in words), line
    assert attempt("folder", tmp_path / "photos.zip", "--on-bad", "skip", size=128).code == 0
    level = open_dataset(tmp_path / "out", 128)
    assert level.count == 1
    assert {s.file for s in level.manifest.skipped} == {f"photos.zip: member dogs/{name}" for name in bad}


def archive(path: Path, **members: bytes) -> Path:
    """A zip with one sound image, and these members ("__" stands for "/")."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stream:
        stream.writestr("a.png", replicas._encoded(replicas.picture(64, 64, 1), "PNG"))
        for name, data in members.items():
            stream.writestr(name.replace("__", "/"), data)
    return path


@pytest.mark.parametrize("name", ["..__b.png", "x__..__..__b.txt", "__b.png", "C:b.png", "..\\b.png"])
def test_a_zip_that_points_outside_is_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "x.zip", **{name: b"x"})
    refused(attempt("folder", path, "--on-bad", "skip"), path, name.replace("__", "/"), "path", "write the zip again")


def test_a_zip_bomb_is_named_and_never_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_and_zip, "MAX_MEMBER", 2**20)
    path = archive(tmp_path / "x.zip", **{"bomb.png": bytes(2**20 + 1)})
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(zipfile.ZipExtFile, "read", no_large(zipfile.ZipExtFile.read))
    refused(attempt("folder", path), "x.zip: member bomb.png", "unpacks to 1048577 bytes, more than 1048576", "shrink")
    assert attempt("folder", path, "--on-bad", "skip").code == 0


def no_large(real: Callable[..., bytes]) -> Callable[..., bytes]:
    def read(self: zipfile.ZipExtFile, n: int = -1) -> bytes:
        assert "bomb" not in self.name
        return real(self, n)

    return read


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_says(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", **{"liar.png": bytes(5000)})
    data = path.read_bytes()
    path.write_bytes(data.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    refused(attempt("folder", path), "x.zip: member liar.png", "damaged in its archive", "copy the archive again")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip")
    with zipfile.ZipFile(path, "a") as stream:
        stream.writestr("a.png", b"another one")
    refused(attempt("folder", path), path, "member a.png is there twice", "write the zip again")


def test_damage_inside_a_zip(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip")
    with zipfile.ZipFile(path, "a") as stream:  # stored, so that its bytes can be found
        stream.writestr("b.png", b"the bytes of b")
    path.write_bytes(path.read_bytes().replace(b"the bytes of b", b"the bytes of c"))
    refused(attempt("folder", path), "x.zip: member b.png", "damaged in its archive", "CRC")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_damage_inside_a_member_of_another_compression(tmp_path: Path, method: int) -> None:
    path = archive(tmp_path / "x.zip")
    with zipfile.ZipFile(path, "a", method) as stream:
        stream.writestr("b.png", os.urandom(4000))
        info = stream.getinfo("b.png")
    data = bytearray(path.read_bytes())
    middle = info.header_offset + 30 + len("b.png") + info.compress_size // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    refused(attempt("folder", path), "x.zip: member b.png", "damaged in its archive")


def test_an_encrypted_member(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", **{"b.png": b"secret"})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    refused(attempt("folder", path), "x.zip: member b.png", "is encrypted", "without a password")


def test_zips_that_hold_nothing_or_are_none(tmp_path: Path) -> None:
    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    for kind in ("folder", "celeba", "chairs", "cars", "celeba_hq"):
        refused(attempt(kind, empty), empty, "holds no images", "name a folder of images or a zip")
    text = tmp_path / "text.zip"
    text.write_text("no zip")
    refused(attempt("celeba", text), text, "not a readable zip", "copy it again")
    whole = archive(tmp_path / "cut.zip")
    whole.write_bytes(whole.read_bytes()[:-30])
    refused(attempt("folder", whole), whole, "not a readable zip")


def test_what_macos_leaves_behind_is_no_image(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", **{"____MACOSX__._a.png": b"x", "__MACOSX__b.png": b"x"})
    assert "absolute path" in attempt("folder", path).err
    path = archive(tmp_path / "y.zip", **{"z__._a.png": b"x"})
    with zipfile.ZipFile(path, "a") as stream:
        stream.writestr("__MACOSX/b.png", b"x")
    assert attempt("folder", path).code == 0
    assert open_dataset(tmp_path / "out", 64).count == 1


# Parquet


def test_rows_of_a_parquet_file_are_named(tmp_path: Path) -> None:
    images: list[Any] = [replicas.hq_image(i, 64) for i in range(5)]
    images[1], images[3] = None, images[3][:32]
    replicas.hq_parquet(tmp_path / "src/x.parquet", images)
    outcome = attempt("celeba_hq", tmp_path / "src")
    refused(outcome, "2 problems")
    assert "holds no image bytes; remove the row" in lines_of(outcome, "x.parquet: row 1 (00001.png)")
    assert "is 64x32, not 64x64" in lines_of(outcome, "x.parquet: row 3 (00003.png)")
    assert attempt("celeba_hq", tmp_path / "src", "--on-bad", "skip").code == 0
    found = open_dataset(tmp_path / "out", 64).read_samples(np.arange(3)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(found, [images[i] for i in (0, 2, 4)])


def test_parquet_without_images_or_damaged(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "x.parquet"
    for column in (pyarrow.array(["1"]), pyarrow.array([{"path": "a"}])):
        parquet.write_table(pyarrow.table({"image": column, "n": [1]}), path)
        refused(attempt("celeba_hq", path), path, "no column image with bytes", f"image ({column.type})", "n (int64)")
    path.write_bytes(b"PAR1 no")
    refused(attempt("celeba_hq", path), path, "not a readable parquet file", "copy it again")


def test_parquet_larger_than_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "src/x.parquet"
    replicas.hq_parquet(path, [replicas.hq_image(i, 64) for i in range(3)])
    with monkeypatch.context() as patch:
        patch.setattr(parquet_store, "MAX_MEMBER", 1000)
        refused(
            attempt("celeba_hq", path), "3 problems", "x.parquet: row 2 (00002.png): holds", "more than 1000", "shrink"
        )
    parquet_store._images.cache_clear()
    monkeypatch.setattr(parquet_store, "MAX_GROUP", 1000)
    refused(attempt("celeba_hq", path), path, "row group 0 has", "more than 1000", "write smaller ones")


def test_rows_of_one_name_in_two_parquet_files_are_told_apart(tmp_path: Path) -> None:
    """By the row's number in all files; a bad one is left out alone."""
    images: list[Any] = [replicas.hq_image(i, 64) for i in range(4)]
    replicas.hq_parquet(tmp_path / "src/a/x.parquet", [*images[:2], images[2]])
    replicas.hq_parquet(tmp_path / "src/b/x.parquet", [None, images[3]])
    made = Made(tmp_path / "out", "celeba_hq", tmp_path / "src", "--resolutions", "64", "--on-bad", "skip")
    assert made.names == ["00000", "00001", "00002.png", "00004"]
    np.testing.assert_array_equal(made.pixels(), images)


def test_without_pyarrow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = replicas.celeba_hq(tmp_path / "src", 1, "parquet", size=64)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(attempt("celeba_hq", source), "needs pyarrow", "pip install -c constraints.txt -e '.[parquet]'")
