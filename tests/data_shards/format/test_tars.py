"""Tars that other tools wrote: indexed and read, or refused."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from data_shards.format import tars
from data_shards.read.loader import open_dataset
from tests.support import replicas
from tests.support.data_sets import deep_png, hashes, make_dsprites, refused, run


def image(seed: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def plain_webdataset(folder: Path, size: int = 32) -> Path:
    """Two tars by webdataset's own ShardWriter: png, cls and json."""
    folder.mkdir(parents=True)
    with webdataset.ShardWriter(str(folder / "x-%04d.tar"), maxcount=4, verbose=0) as sink:
        for i in range(7):
            labels = {"height": 10 + i, "artist": "anon"}
            sink.write({"__key__": f"images/pic_{i}", "png": image(i, size), "cls": i % 3, "json": labels})
    return folder


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def tar_of(folder: Path, fill: Callable[[tarfile.TarFile], None]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "shard.tar", "w") as tar:
        add(tar, "000.png", png(image(0)))
        fill(tar)
    return folder / "shard.tar"


def test_tars_of_plain_webdataset_are_indexed_and_read(tmp_path: Path) -> None:
    root = plain_webdataset(tmp_path / "set")
    before = hashes(root)
    outcome = run("index", root)
    assert outcome.code == 0, outcome.err
    level = open_dataset(root, 32)
    np.testing.assert_array_equal(
        level.read_samples(np.arange(7)).permute(0, 2, 3, 1).numpy(), [image(i) for i in range(7)]
    )
    assert level.labels["class"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert level.labels["height"].tolist() == list(range(10, 17))
    assert level.factors is None
    assert before.items() <= hashes(root).items(), "the tars are left as they are"
    assert run("check", root, "--workers", 1).code == 0


def test_one_folder_of_tars_per_level_is_read(tmp_path: Path) -> None:
    for size in (64, 32):
        plain_webdataset(tmp_path / str(size), size)
    assert run("index", tmp_path).code == 0
    assert open_dataset(tmp_path, 64).manifest.resolutions == (64, 32)
    next((tmp_path / "32").glob("*1.tar")).unlink()
    refused(run("index", tmp_path), tmp_path / "32", "other samples", "same keys")


def test_our_own_tars_are_indexed_as_the_writer_does(tmp_path: Path) -> None:
    out = make_dsprites(tmp_path / "set", 10, "128,64", per_shard=4)
    before = hashes(out)
    assert run("index", out).code == 0
    assert hashes(out) == before
    factors = open_dataset(out, 64).factors
    (out / "manifest.json").unlink()
    assert run("index", out).code == 0
    level = open_dataset(out, 64)
    names = [f.name for f in level.manifest.factors]
    order = [names.index(n) for n in ("shape", "scale", "orientation", "pos_x", "pos_y")]
    assert level.factors is not None
    np.testing.assert_array_equal(level.factors[:, order], factors)


def test_an_index_that_was_lost_comes_back_as_it_was(tmp_path: Path) -> None:
    """Channels that WebP does not tell, and labels in an order that is not the alphabet's: runs go by the hash."""
    source = replicas.chairs(tmp_path / "src", 2)
    for name, *args in (("chairs", source), ("dsprites", "--count", 8, "--codec", "webp")):
        out = tmp_path / name
        assert run("make", name, *args, "--out", out, "--workers", 1).code == 0
        before = hashes(out)
        for index in out.rglob("index.npz"):
            index.unlink()
        outcome = run("index", out)
        assert outcome.code == 0, outcome.err
        assert hashes(out) == before, name


def rewrite(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Write a tar again with members of the same names. change: gives the bytes of a member, by its name and bytes."""
    with tarfile.open(path) as tar:
        members = [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            add(tar, name, change(name, data))


def without_scale(name: str, data: bytes) -> bytes:
    if not name.endswith(".json"):
        return data
    content = json.loads(data)
    del content["factors"]["scale"]
    return json.dumps(content).encode()


def test_tars_that_are_refused_leave_the_files_of_a_set_as_they_were(tmp_path: Path) -> None:
    """Level 128 is read before level 256, where a factor is missing: its index is not written either."""
    out = make_dsprites(tmp_path / "set", 8, "256,128", per_shard=4)
    shutil.copytree(out, tmp_path / "before")
    rewrite(out / "128/00001.tar", lambda name, data: data + b"\0")
    rewrite(out / "256/00001.tar", without_scale)
    changed = hashes(out)
    refused(run("index", out), out / "256/00001.tar", "no integer scale", "write the tar again")
    assert hashes(out) == changed
    for tar in ("128/00001.tar", "256/00001.tar"):
        shutil.copy(tmp_path / "before" / tar, out / tar)
    assert run("check", out, "--workers", 1).code == 0, "with the tars of before it is read as before"


def test_a_tar_that_a_manifest_cannot_name_is_refused(tmp_path: Path) -> None:
    folder = plain_webdataset(tmp_path / "tars")
    (folder / "x-0000.tar").rename(folder / "my shard.tar")
    refused(run("index", folder), folder / "my shard.tar", "letters, digits")


def test_images_of_16_bits_are_refused_and_never_read_modulo_256(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "tars", lambda tar: add(tar, "001.png", deep_png(32)))
    refused(run("index", path.parent), path, "001.png", "16 bits", "make folder")


HOSTILE = {
    "symbolic link": (
        lambda t: add(t, "001.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "001.png",
        "/etc/passwd",
    ),
    "hard link": (
        lambda t: add(t, "001.png", type=tarfile.LNKTYPE, linkname="000.png"),
        "001.png",
        "link to 000.png",
    ),
    "device": (lambda t: add(t, "001.png", type=tarfile.CHRTYPE), "001.png", "not a plain file"),
    "absolute": (lambda t: add(t, "/etc/001.png", png(image(1))), "/etc/001.png", "absolute path"),
    "parent": (lambda t: add(t, "a/../../001.png", png(image(1))), "a/../../001.png", "parent path"),
    "text": (lambda t: add(t, "001.png", b"not an image"), "001.png", "not a readable image"),
    "oblong": (lambda t: add(t, "001.png", png(image(1)[:20])), "001.png", "32x20"),
    "other size": (lambda t: add(t, "001.png", png(image(1, 16))), "001.png", "16 px"),
    "no image": (lambda t: add(t, "001.txt", b"x"), "sample 001", "0 images"),
    "not adjacent": (
        lambda t: (add(t, "001.png", png(image(1))), add(t, "000.json", b"{}")),
        "000.json",
        "adjacent",
    ),
    "bad json": (lambda t: add(t, "000.json", b"{"), "000.json", "not valid json"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_tar_is_refused_with_tar_member_and_remedy(tmp_path: Path, kind: str) -> None:
    fill, member, rule = HOSTILE[kind]
    path = tar_of(tmp_path / "set", fill)  # type: ignore[arg-type]
    before = hashes(tmp_path)
    outcome = run("index", tmp_path / "set")
    refused(outcome, path, member, rule)
    assert any(word in outcome.err for word in ("write the tar again", "make folder", "sort the tar")), outcome.err
    assert hashes(tmp_path) == before, "nothing was written"


def test_a_huge_member_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "set" / "shard.tar"
    path.parent.mkdir()
    info = tarfile.TarInfo("000.png")
    info.size = tars.MAX_MEMBER + 1
    with open(path, "wb") as stream:
        stream.write(info.tobuf())
        stream.truncate(2**27)
    refused(
        run("index", path.parent, "--workers", 1),
        path,
        "000.png",
        tars.MAX_MEMBER + 1,
        tars.MAX_MEMBER,
        "write the tar again",
    )


@pytest.mark.parametrize("keep", [100, 700, 1024 + 512 * 8, -1024 * 9, -700 * 13])
def test_a_truncated_tar_is_refused_wherever_it_ends(tmp_path: Path, keep: int) -> None:
    path = tar_of(tmp_path / "set", lambda t: add(t, "001.png", png(image(1))))
    path.write_bytes(path.read_bytes()[:keep])
    refused(run("index", path.parent), path, "truncated", "copy it again")


def test_something_else_than_a_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"GIF89a" * 1000)
    refused(run("index", tmp_path), tmp_path / "a.tar", "not a plain tar", "copy it again")
    refused(run("index", tmp_path / "nowhere"), tmp_path / "nowhere", "no such folder", "name a folder")
    (tmp_path / "a.tar").unlink()
    refused(run("index", tmp_path), tmp_path, "holds no *.tar", "name a folder")


@pytest.mark.parametrize(
    ("extensions", "image"),
    [
        (["png"], "png"), (["mask.png", "png"], "png"), (["png", "jpg"], "jpg"), (["webp", "png"], "webp"),
        (["seg.jpg", "png"], "png"), (["mask.png", "image.png"], "image.png"), (["mask.png"], "mask.png"),
        (["jpg", "webp"], None), (["left.png", "right.png"], None), (["txt", "json"], None), ([], None),
    ],
)  # fmt: skip
def test_which_member_is_the_image_of_a_sample(extensions: list[str], image: str | None) -> None:
    assert tars.image_extension(extensions) == image
    assert tars.image_extension(extensions[::-1]) == image
