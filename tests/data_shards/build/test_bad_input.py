"""Bad images, shards, manifests and indices: one clear error each, nothing damaged."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from data_shards.read.loader import batches, open_dataset
from tests.support.data_sets import deep_png, hashes, make_dsprites, photos, refused, run

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 140 140\n%%EndComments\nshowpage\n"


def picture(size: tuple[int, int] = (150, 140), mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def truncated(path: Path, kind: str) -> None:
    stream = io.BytesIO()
    picture().save(stream, kind)
    path.write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(path, exif=exif)


def offenders(folder: Path) -> dict[str, tuple[str, str]]:
    """One file of each bad kind -> the rule and the remedy that must be named."""
    folder.mkdir(parents=True, exist_ok=True)
    truncated(folder / "cut.png", "PNG")
    truncated(folder / "cut.jpg", "JPEG")
    picture(mode="CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.zeros((140, 140), np.uint16)).save(folder / "deep.png")
    (folder / "deep_rgb.png").write_bytes(deep_png(140))
    (folder / "postscript.png").write_bytes(EPS)
    picture().save(folder / "moving.gif", save_all=True, append_images=[picture((150, 140), "L")])
    rotated(folder / "turned.jpg")
    picture((100, 300)).save(folder / "small.png")
    Image.new("1", (10_400, 10_000)).save(folder / "large.png")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    Image.new("RGBA", (150, 140), (1, 2, 3, 100)).save(folder / "clear.png")
    (folder / "text.png").write_text("hello")
    return {
        "cut.png": ("truncated", "copy it again"),
        "cut.jpg": ("truncated", "copy it again"),
        "cmyk.jpg": ("CMYK", "convert it to sRGB"),
        "deep.png": ("16 bits", "convert it to 8 bits"),
        "deep_rgb.png": ("16 bits", "convert it to 8 bits"),
        "moving.gif": ("animated (2 frames)", "save the frame"),
        "turned.jpg": ("EXIF-rotated (orientation 6)", "exiftran"),
        "small.png": ("100x300, too small for 128 px", "smaller largest resolution"),
        "large.png": ("10400x10000, larger than 100 megapixels", "shrink it"),
        "bomb.png": ("larger than 100 megapixels", "shrink it"),
        "clear.png": ("transparent", "flatten"),
        "text.png": ("not a readable image", "convert it"),
        "postscript.png": ("not a readable image", "convert it"),
    }


def test_all_unusable_images_are_listed_at_once(tmp_path: Path) -> None:
    source = photos(tmp_path / "src")
    bad = offenders(source / "dogs")
    make = ["make", "folder", source, "--out", tmp_path / "set", "--resolutions", "128,64", "--workers", 1]
    outcome = run(*make)
    refused(outcome, f"{len(bad)} problems", "--on-bad skip")
    lines = outcome.err.splitlines()
    for name, words in bad.items():
        (line,) = [text for text in lines if f"dogs/{name}:" in text]
        assert all(word in line for word in words), line
    assert not (tmp_path / "set").exists()
    skipping = run(*make, "--on-bad", "skip")
    assert skipping.code == 0, skipping.err
    level = open_dataset(tmp_path / "set", 64)
    assert level.count == 6
    assert {s.file for s in level.manifest.skipped} == {f"dogs/{name}" for name in bad}
    assert "already complete" in run(*make, "--on-bad", "skip").out


def test_a_file_that_cannot_be_read_is_one_offender_among_others(tmp_path: Path) -> None:
    source = photos(tmp_path / "src")
    (source / "dogs" / "link.png").symlink_to(source / "nowhere.png")
    (source / "cats" / "text.png").write_text("hello")
    make = ["make", "folder", source, "--out", tmp_path / "set", "--resolutions", 64, "--workers", 1]
    refused(run(*make), "2 problems", "dogs/link.png: cannot be read (No such file or directory)", "cats/text.png: ")
    assert run(*make, "--on-bad", "skip").code == 0


def test_linked_folders_count_and_a_link_to_a_folder_above_does_not(tmp_path: Path) -> None:
    source = photos(tmp_path / "src")
    elsewhere = photos(tmp_path / "elsewhere") / "cats"
    (source / "more").symlink_to(elsewhere)
    (source / "dogs" / "up").symlink_to(source)
    made = run("make", "folder", source, "--out", tmp_path / "set", "--resolutions", 64, "--workers", 1)
    assert made.code == 0, made.err
    level = open_dataset(tmp_path / "set", 64)
    assert level.manifest.labels[0].classes == ("cats", "dogs", "more")
    assert level.count == 9


def test_a_phones_picture_with_another_beside_it_is_its_first(tmp_path: Path) -> None:
    """MPO: JPEG with a depth map or a preview."""
    source = photos(tmp_path / "src", 2)
    picture().save(source / "cats" / "phone.jpg", "MPO", save_all=True, append_images=[picture((40, 40))])
    made = run("make", "folder", source, "--out", tmp_path / "set", "--resolutions", 64, "--workers", 1)
    assert made.code == 0, made.err
    assert open_dataset(tmp_path / "set", 64).count == 3


def test_check_lists_each_problem_once(root: Path) -> None:
    for name in ("00001", "00002"):
        (root / f"64/{name}.tar").unlink()
    outcome = run("check", root, "--workers", 1)
    assert outcome.code == 2
    assert "64: 2 problems" not in outcome.err
    assert outcome.err.count("00001.tar: missing") >= 1


def test_grey_palette_and_opaque_rgba_images_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "P", "1"):
        picture(mode=mode).save(tmp_path / f"{mode}.png")
    picture().convert("RGBA").save(tmp_path / "RGBA.png")
    outcome = run("make", "folder", tmp_path, "--out", tmp_path / "set", "--resolutions", "64", "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert "note: grey images are stored as RGB (2 of them)\n" in outcome.out
    level = open_dataset(tmp_path / "set", 64)
    assert level.count == 4
    grey = level.read_samples(np.array([1]))[0]
    assert (grey[0] == grey[1]).all()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["make", "folder", "{}/none", "--resolutions", "64"], ["none", "no such folder", "name a folder"]),
        (["make", "folder", "{}", "--resolutions", "64"], ["holds no images", "name a folder"]),
        (["make", "folder", "{}", "--resolutions", "64,9"], ["is 64,9", "9 is not a power of two"]),
        (["make", "dsprites", "--count", "5", "--resolutions", "32"], ["--resolutions is 32", "add 64"]),
        (["make", "dsprites"], ["--count N", "--all"]),
        (["make", "dsprites", "--count", "0"], ["--count is 0", "choose 1 to 737280"]),
        (["make", "dsprites", "--count", "many"], ["--count", "many", "integer"]),
        (["make", "dsprites", "--cout", "5"], ["--cout", "--count", "--help"]),
    ],
)  # fmt: skip
def test_bad_options(tmp_path: Path, args: list[str], words: list[str]) -> None:
    outcome = run(*(a.format(tmp_path) for a in args), "--out", tmp_path / "out")
    refused(outcome, *words)
    assert not (tmp_path / "out").exists()


def test_a_bad_option_gives_exit_code_2_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "data_shards", "make", "dsprites", "--out", "x", "--codec", "gif"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "gif" in done.stderr
    assert "png" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dsprites(tmp_path_factory.mktemp("bad") / "sound", 12, "128,64", per_shard=4)


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "set")
    return tmp_path / "set"


def refuses_to_open(root: Path, *words: object, resolution: int = 64) -> None:
    """Opening and `check` both name the problem, and neither changes a file."""
    before = hashes(root)
    with pytest.raises(UserError) as caught:
        open_dataset(root, resolution)
    for word in words:
        assert str(word) in str(caught.value), (word, str(caught.value))
    refused(run("check", root, "--workers", 1), *words)
    assert hashes(root) == before


def test_a_missing_set_names_the_command_that_makes_it(tmp_path: Path) -> None:
    refuses_to_open(tmp_path / "none", tmp_path / "none", "make dsprites --out")
    (tmp_path / "a.tar").write_bytes(b"")
    refuses_to_open(tmp_path, tmp_path / "manifest.json", f"index {tmp_path}")


def test_a_missing_shard(root: Path) -> None:
    (root / "64/00001.tar").unlink()
    refuses_to_open(root, root / "64/00001.tar", "missing", "copy it again")


def test_several_bad_shards_are_listed_at_once(root: Path) -> None:
    (root / "64/00001.tar").unlink()
    os.truncate(root / "64/00002.tar", 3000)
    shutil.copy(root / "64/00000.tar", root / "64/extra.tar")
    refuses_to_open(root, "00001.tar: missing", "has 3000 bytes", "truncated", "extra.tar", "foreign")


def test_a_foreign_shard_of_the_same_name(root: Path) -> None:
    (root / "64/00000.tar").write_bytes((root / "64/00000.tar").read_bytes() + bytes(10_240))
    refuses_to_open(root, root / "64/00000.tar", "foreign", f"index {root}")


def change_a_pixel(path: Path) -> None:
    """Same size, other bytes, as a rewritten tar would have."""
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)


def touch(path: Path, seconds: int) -> None:
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + seconds * 10**9))


def test_an_index_older_than_its_tar(root: Path) -> None:
    tar = root / "64/00001.tar"
    change_a_pixel(tar)
    touch(tar, 60)
    refuses_to_open(root, tar, "older than its tar", f"index {root}")


def test_a_touched_tar_with_the_same_bytes_is_fine(root: Path) -> None:
    touch(root / "64/00001.tar", 60)
    assert open_dataset(root, 64).count == 12


def test_each_tar_is_looked_at_once_when_a_set_is_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set may have thousands of tars on a file system where each look takes milliseconds, for every process."""
    looks: Counter[str] = Counter()
    real = os.stat

    def counted(path: Path, **options: bool) -> os.stat_result:
        looks[str(path)] += 1
        return real(path, **options)

    monkeypatch.setattr(os, "stat", counted)
    open_dataset(root, 64)
    files = [*root.glob("64/*.tar"), root / "64/index.npz"]
    assert len(files) == 4
    assert [looks[str(path)] for path in files] == [1, 1, 1, 1]


def test_check_finds_changed_bytes_whatever_the_times_say(root: Path) -> None:
    change_a_pixel(root / "64/00001.tar")
    touch(root / "64/00001.tar", -600)
    refused(run("check", root, "--workers", 1), root / "64/00001.tar", "sha256 is", f"index {root}")


def test_check_finds_a_level_that_is_not_the_box_mean(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    plain = [
        "make",
        "dsprites",
        "--count",
        12,
        "--resolutions",
        "64",
        "--samples-per-shard",
        4,
        "--workers",
        1,
    ]
    assert run(*plain, "--out", other).code == 0
    for tar in (other / "64").glob("*.tar"):
        shutil.copy(tar, root / "64")
    assert run("index", root).code == 0
    found = json.loads((root / "manifest.json").read_text())
    assert found["codec"] is None, "other bytes: the recipe holds no longer"
    found["codec"] = {"name": "png", "quality": None}
    (root / "manifest.json").write_text(json.dumps(found))
    refused(run("check", root, "--workers", 1), root / "64/00000.tar", "not the box mean")


def test_a_missing_or_changed_index(root: Path) -> None:
    data = (root / "64/index.npz").read_bytes()
    (root / "64/index.npz").write_bytes(data[:-1] + b"?")
    refuses_to_open(root, root / "64/index.npz", "sha256 is", f"index {root}")
    (root / "64/index.npz").unlink()
    refuses_to_open(root, root / "64/index.npz", "missing", f"index {root}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 7}, ["schema_version is 7", "reads 1", "make the set again"]),
        ({"count": "many"}, ["count is 'many'", "integer"]),
        ({"surprise": 1}, ["surprise is 1", "not permitted"]),
        ({"levels": {}}, ["levels is empty"]),
    ],
)
def test_another_manifest(root: Path, change: dict[str, object], words: list[str]) -> None:
    content = json.loads((root / "manifest.json").read_text()) | change
    (root / "manifest.json").write_text(json.dumps(content))
    refuses_to_open(root, root / "manifest.json", *words, "index")


def test_a_manifest_cannot_point_outside(root: Path) -> None:
    text = (root / "manifest.json").read_text().replace('"00000.tar"', '"../../secret.tar"')
    (root / "manifest.json").write_text(text)
    refuses_to_open(root, root / "manifest.json", "levels.", "../../secret.tar")


def test_a_manifest_that_is_no_json(root: Path) -> None:
    (root / "manifest.json").write_text('{"schema_version": 1,')
    refuses_to_open(root, root / "manifest.json", "not valid JSON", "index")


def test_a_resolution_that_is_not_stored(root: Path) -> None:
    with pytest.raises(UserError, match=r"resolution 256 is not stored .there are: 128, 64.; make the set again"):
        open_dataset(root, 256)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_while_it_is_read(root: Path, workers: int) -> None:
    """The open set was sound; then the disk lied."""
    level = open_dataset(root, 64)
    tar = root / "64/00000.tar"
    tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(UserError) as caught:
        list(batches(level, seed=0, start=0, batch_size=12, workers=workers))
    for word in (tar, "cannot be decoded", f"check {root}"):
        assert str(word) in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_batch_that_does_not_divide(root: Path) -> None:
    with pytest.raises(UserError, match="batch size 10 does not divide by 3 processes; choose a multiple"):
        next(batches(open_dataset(root, 64), seed=0, start=0, batch_size=10, world_size=3))
