"""Tars as others' tools leave them: images of any size, captions and tables beside, compressed, or packed by hand."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from tests.support import replicas
from tests.support.data_sets import Made, attempt, box_mean, hashes, lines_of, make_dsprites, photos, refused, run


def encoded(seed: int, size: tuple[int, int], kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    replicas.picture(*size, seed).save(stream, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return stream.getvalue()


def size_of(i: int) -> tuple[int, int]:
    return 70 + 13 * i, 90 + 7 * (i % 3)


def img2dataset(folder: Path, count: int = 7) -> Path:
    """Shards of images of varying size with caption and json, a parquet and a _stats.json beside each."""
    folder.mkdir(parents=True)
    for shard, first in enumerate(range(0, count, 4)):
        with webdataset.TarWriter(str(folder / f"{shard:05d}.tar"), encoder=False) as sink:
            for i in range(first, min(first + 4, count)):
                width, height = size_of(i)
                about = {
                    "caption": f"picture {i}", "url": f"https://x.org/{i}.jpg", "key": f"{i:09d}", "status": "success",
                    "error_message": None, "width": width, "height": height, "exif": "{}", "sha256": f"{i:064x}",
                }  # fmt: skip
                text = {"txt": about["caption"].encode(), "json": json.dumps(about, indent=4).encode()}
                sink.write({"__key__": about["key"], "jpg": encoded(i, (width, height)), **text})
        (folder / f"{shard:05d}.parquet").write_bytes(b"PAR1 a table about the shard")
        (folder / f"{shard:05d}_stats.json").write_text("{}")
    return folder


def truth(images: Iterable[bytes], side: int) -> np.ndarray:
    """The largest centred square of each, by Lanczos."""
    made = []
    for data in images:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        square = image.crop((left, top, left + short, top + short))
        made.append(np.asarray(square.resize((side, side), Image.Resampling.LANCZOS)))
    return np.stack(made)


def test_shards_with_images_of_varying_size_are_sent_to_make_folder_which_reads_them(tmp_path: Path) -> None:
    source = img2dataset(tmp_path / "src")
    before = hashes(source)
    refused(run("index", source), source / "00000.tar", "not square", "make folder")
    made = Made(tmp_path / "set", "folder", source, "--resolutions", "64,32")
    whole = truth((encoded(i, size_of(i)) for i in range(7)), 64)
    np.testing.assert_array_equal(made.pixels(), whole)
    np.testing.assert_array_equal(made.pixels(32), box_mean(whole, 32))
    assert made.names == [f"{i:09d}" for i in range(7)]
    assert made.labels["width"] == [size_of(i)[0] for i in range(7)]
    assert made.labels["height"] == [size_of(i)[1] for i in range(7)]
    assert "left out, members beside the images: txt 7" in made.out
    assert "4 files with no extension of an image: .json 2, .parquet 2" in made.out
    assert hashes(source) == before
    assert run("check", made.root, "--workers", 1).code == 0
    again = run("make", "folder", source, "--resolutions", "64,32", "--out", made.root, "--workers", 1)
    assert "already complete" in again.out


def test_two_workers_write_what_one_does(tmp_path: Path) -> None:
    source = img2dataset(tmp_path / "src")
    args = ("folder", source, "--resolutions", "64", "--samples-per-shard", 2)
    one = Made(tmp_path / "one", *args)
    assert run("make", *args, "--out", tmp_path / "two", "--workers", 2).code == 0
    assert hashes(one.root) == hashes(tmp_path / "two")


def test_keys_classes_and_numbers_of_any_webdataset_are_kept(tmp_path: Path) -> None:
    """The keys begin anew in every tar, and the extensions have two parts."""
    (tmp_path / "src/train").mkdir(parents=True)
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"src/train/x-{shard}.tar"), encoder=False) as sink:
            for i in range(3):
                image = {"input.png": encoded(10 * shard + i, (64, 64), "PNG")}
                about = json.dumps({"height": 5 * i, "artist": {"born": 1900 + shard}}).encode()
                sink.write({"__key__": f"a/{i}", "cls": str(i % 2).encode(), "json": about, **image})
    made = Made(tmp_path / "set", "folder", tmp_path / "src", "--resolutions", "64")
    assert made.names == [f"train/x-{shard}/a/{i}" for shard in range(2) for i in range(3)]
    assert made.labels == {"born": [1900] * 3 + [1901] * 3, "class": [0, 1, 0] * 2, "height": [0, 5, 10] * 2}
    np.testing.assert_array_equal(made.pixels()[4], np.asarray(replicas.picture(64, 64, 11)))


def test_a_tar_of_folders_gives_the_pixels_and_classes_of_the_folders(tmp_path: Path) -> None:
    """As `tar -cf` packs them, with its entries for folders and in no order."""
    source = photos(tmp_path / "src")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in ("dogs", "cats"):
            tar.add(source / name, name, recursive=False)
            for path in sorted((source / name).iterdir(), reverse=True):
                tar.add(path, f"{name}/{path.name}")
    plain = Made(tmp_path / "plain", "folder", source, "--resolutions", "64")
    made = Made(tmp_path / "set", "folder", tmp_path / "photos.tar", "--resolutions", "64")
    assert made.classes("class") == plain.classes("class") == ("cats", "dogs")
    order = [plain.names.index(f"{name}.png") for name in made.names]
    np.testing.assert_array_equal(made.pixels(), plain.pixels()[order])
    assert made.labels["class"] == [plain.labels["class"][i] for i in order]


def test_a_set_of_ours_is_made_again_from_its_largest_level(tmp_path: Path) -> None:
    source = replicas.chairs(tmp_path / "src", 2)
    chairs = Made(tmp_path / "chairs", "chairs", source, "--resolutions", "128,64")
    made = Made(tmp_path / "set", "folder", chairs.root, "--resolutions", "64")
    np.testing.assert_array_equal(made.pixels(), truth((png(i) for i in chairs.pixels()), 64))
    assert made.labels == chairs.labels
    assert made.classes("model") == chairs.classes("model")
    few = make_dsprites(tmp_path / "few", 6, "128,64")
    assert Made(tmp_path / "again", "folder", few, "--resolutions", "64").labels.keys() >= {"shape", "pos_x", "index"}


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_offenders_in_tars_are_listed_at_once_by_tar_and_member(tmp_path: Path) -> None:
    source = img2dataset(tmp_path / "src")
    sound = (source / "00000.tar").read_bytes()
    (source / "00002.tar").write_bytes(sound[:2000])
    (source / "00004.tar").symlink_to(source / "gone.tar")
    os.mkfifo(source / "00005.tar")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    replicas.picture(90, 80, 1).save(turned, "JPEG", exif=exif)
    about = b'{"width": 1, "height": 1}'
    bad = {
        "a.jpg": b"no image", "a.json": about, "b.jpg": turned.getvalue(), "b.json": about,
        "c.jpg": encoded(1, (60, 90)), "c.json": about, "d.left.png": b"x", "d.right.png": b"x",
        "e.jpg": encoded(2, (80, 80)), "e.json": b"{",
    }  # fmt: skip
    with tarfile.open(source / "00003.tar", "w") as tar:
        for name, data in bad.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    outcome = attempt("folder", source)
    refused(outcome, "8 problems", "--on-bad skip")
    assert "cannot be read (No such file or directory)" in lines_of(outcome, "00004.tar")
    assert "is no file" in lines_of(outcome, "00005.tar")
    assert "truncated" in lines_of(outcome, "00002.tar")
    assert "not a readable image" in lines_of(outcome, "00003.tar: member a.jpg")
    assert "EXIF-rotated" in lines_of(outcome, "00003.tar: member b.jpg")
    assert "60x90, too small for 64 px" in lines_of(outcome, "00003.tar: member c.jpg")
    assert "left.png, right.png" in lines_of(outcome, "00003.tar: member d.left.png")
    assert "e.json is not valid json" in lines_of(outcome, "00003.tar: member e.jpg")
    made = Made(tmp_path / "set", "folder", source, "--resolutions", "64", "--on-bad", "skip")
    assert made.names == [f"{i:09d}" for i in range(7)]
    assert made.labels["width"] == [size_of(i)[0] for i in range(7)], "the labels of the sound ones are not lost"


COMPRESSED = {"x.tar.gz": "gunzip", "x.tgz": "gunzip", "x.tar.bz2": "bunzip2", "x.tar.xz": "unxz", "x.tar": "gunzip"}


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_tar_is_named_with_the_command_that_unpacks_it(tmp_path: Path, name: str) -> None:
    """Also one called x.tar, and one beside plain tars, whose images would be missing; the command is run."""
    source = img2dataset(tmp_path / "my src")
    plain = source / "00000.tar"
    pack = {"gunzip": "gzip", "bunzip2": "bzip2", "unxz": "xz"}[COMPRESSED[name]]
    if shutil.which(pack) is None:
        pytest.skip(f"no {pack}")
    (source / name).write_bytes(subprocess.run([pack, "-c", plain], capture_output=True, check=True).stdout)
    (source / "00001.tar").unlink()
    for outcome in (run("index", source), attempt("folder", source), attempt("folder", source / name)):
        refused(outcome, source / name, "compressed tar", "by position", COMPRESSED[name])
    plain.unlink()
    outcome = attempt("folder", source)
    refused(outcome, source / name)
    subprocess.run(outcome.err.split("`")[1], shell=True, check=True)
    assert (source / "x.tar").exists()
    assert Made(tmp_path / "set", "folder", source, "--resolutions", "64").manifest.count == 4


def test_what_holds_no_images_says_what_it_holds(tmp_path: Path) -> None:
    source = img2dataset(tmp_path / "inner")
    (tmp_path / "src").mkdir()
    with tarfile.open(tmp_path / "src/all.tar", "w") as tar:
        tar.add(source / "00000.tar", "00000.tar")
    refused(attempt("folder", tmp_path / "src"), tmp_path / "src", "holds no images", ".tar 1")
    (tmp_path / "src/notes.tar").write_bytes(b"GIF89a" * 1000)
    refused(attempt("folder", tmp_path / "src"), "notes.tar: truncated or not a plain tar", "copy it again")


def test_tars_that_were_put_one_after_the_other_are_refused(tmp_path: Path) -> None:
    """A reader of tars stops at the first one's end: the images of the others would be missing."""
    source = img2dataset(tmp_path / "src")
    whole = b"".join(path.read_bytes() for path in sorted(source.glob("*.tar")))
    for path in source.iterdir():
        path.unlink()
    (source / "all.tar").write_bytes(whole)
    for outcome in (run("index", source), attempt("folder", source)):
        refused(outcome, "all.tar", "goes on behind its end (after member 000000003.", "write them as one")
    (source / "all.tar").unlink()
    with webdataset.TarWriter(str(source / "padded.tar"), encoder=False) as sink:
        sink.write({"__key__": "0", "png": encoded(1, (64, 64), "PNG")})
    with open(source / "padded.tar", "ab") as stream:
        stream.write(bytes(2**20))
    assert run("index", source).code == 0


@pytest.mark.parametrize("extension", ["left.png", ".LEFT.png"])
def test_of_several_images_that_one_is_taken_whose_extension_is_named(tmp_path: Path, extension: str) -> None:
    (tmp_path / "src").mkdir()
    with webdataset.TarWriter(str(tmp_path / "src/pairs.tar"), encoder=False) as sink:
        for i in range(3):
            pair = {side: encoded(i + 10 * n, (64, 64), "PNG") for n, side in enumerate(("right.png", "left.png"))}
            sink.write({"__key__": f"{i}", **pair})
    refused(attempt("folder", tmp_path / "src"), "3 problems", "the images left.png, right.png", "--image EXTENSION")
    made = Made(tmp_path / "set", "folder", tmp_path / "src", "--resolutions", "64", "--image", extension)
    np.testing.assert_array_equal(made.pixels(), [np.asarray(replicas.picture(64, 64, 10 + i)) for i in range(3)])
    assert "left out, members beside the images: right.png 3" in made.out


def test_masks_are_left_out_and_one_without_its_image_is_an_offender(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    with webdataset.TarWriter(str(tmp_path / "src/pairs.tar"), encoder=False) as sink:
        for i in range(3):
            image = {"jpg": encoded(i, (70, 64))} if i != 1 else {}
            sink.write({"__key__": f"{i}", **image, "png": encoded(50 + i, (70, 64), "PNG")})
    refused(attempt("folder", tmp_path / "src"), "pairs.tar: member 1.png", "is the only image of its sample", "png")
    made = Made(tmp_path / "set", "folder", tmp_path / "src", "--resolutions", "64", "--on-bad", "skip")
    np.testing.assert_array_equal(made.pixels(), truth((encoded(i, (70, 64)) for i in (0, 2)), 64))
    assert "members beside the images: png 2" in made.out


def test_what_is_no_folder_of_tars_is_told_what_to_name(tmp_path: Path) -> None:
    source = img2dataset(tmp_path / "src/train")
    refused(run("index", source / "00000.tar"), "is no folder; name a folder of tars")
    refused(run("index", tmp_path / "src"), "holds no *.tar", f"such as {source}")
    refused(attempt("folder", source / "{00000..00001}.tar"), "is a pattern", "name a folder")


def test_an_archive_that_lies_beside_the_images_it_was_unpacked_to_is_told(tmp_path: Path) -> None:
    source = photos(tmp_path / "src")
    shutil.make_archive(str(source / "all"), "tar", source, "cats")
    made = Made(tmp_path / "set", "folder", source, "--resolutions", "64")
    assert made.manifest.count == 6
    assert "1 file with no extension of an image: .tar 1; a .tar is read when it is named" in made.out


def test_published_sets_are_read_from_a_tar_as_from_their_folder(tmp_path: Path) -> None:
    source = replicas.chairs(tmp_path / "src", 2)
    shutil.make_archive(str(tmp_path / "chairs"), "tar", tmp_path / "src")
    one = Made(tmp_path / "one", "chairs", source)
    two = Made(tmp_path / "two", "chairs", tmp_path / "chairs.tar")
    assert hashes(one.root) == hashes(two.root)


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet", "tar.gz"])
def test_a_picture_beside_archives_is_not_taken_for_the_set(tmp_path: Path, kind: str) -> None:
    """It would be a set of one image, and nothing would say so but a note."""
    source = tmp_path / "src"
    source.mkdir()
    replicas.picture(80, 80, 1).save(source / "preview.png")
    images = photos(tmp_path / "photos")
    if kind == "parquet":
        data = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(images.rglob("*.png"))]
        pq.write_table(pa.table({"image": data}), source / "train.parquet")
    else:
        shutil.make_archive(str(source / "train"), {"tar.gz": "gztar"}.get(kind, kind), images)
    words = ("compressed tar", "gunzip") if kind == "tar.gz" else ("1 images as files, and 6 in archives", f".{kind} 1")
    refused(attempt("folder", source), source, *words)
    (source / "preview.png").unlink()
    if kind in ("tar", "parquet"):
        assert Made(tmp_path / "set", "folder", source, "--resolutions", "64").manifest.count == 6


@pytest.mark.parametrize("name", ["IMG.{:04d}.png", "2023.05.0{} at noon.png"])
def test_photos_with_dots_in_their_names_are_photos_of_their_own(tmp_path: Path, name: str) -> None:
    names = [name.format(i) for i in range(5)]
    images = [encoded(i, (70, 64), "PNG") for i in range(len(names))]
    (tmp_path / "src").mkdir()
    with tarfile.open(tmp_path / "src/photos.tar", "w") as tar:
        for name, data in zip(names, images, strict=True):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    made = Made(tmp_path / "set", "folder", tmp_path / "src/photos.tar", "--resolutions", "64")
    np.testing.assert_array_equal(made.pixels(), truth(images, 64))
    assert made.names == [name.removesuffix(".png") for name in names]


def test_plain_tars_beside_a_compressed_one_of_the_same_name_stay_as_they_are(tmp_path: Path) -> None:
    source = img2dataset(tmp_path / "src")
    plain = (source / "00000.tar").read_bytes()
    (source / "00001.tar").write_bytes(gzip.compress((source / "00001.tar").read_bytes()))
    outcome = attempt("folder", source)
    refused(outcome, source / "00001.tar", "compressed tar")
    subprocess.run(outcome.err.split("`")[1], shell=True, check=False)
    assert (source / "00000.tar").read_bytes() == plain
    assert Made(tmp_path / "set", "folder", source, "--resolutions", "64").manifest.count == 7
