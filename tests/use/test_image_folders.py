"""What a folder or zip of images really holds: hidden folders, litter of systems, other files, odd names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support import replicas
from tests.support.data_sets import Made, attempt, hashes, make_dsprites, photos, refused, run


def littered(folder: Path) -> Path:
    """Six photos in two classes among what systems and people leave beside photos."""
    photos(folder)
    image = (folder / "cats/001.png").read_bytes()
    litter = (
        ".ipynb_checkpoints/001-checkpoint.png", "cats/.ipynb_checkpoints/001-checkpoint.png", "cats/._001.png",
        ".DS_Store", ".Trash-1000/files/old.png", "@eaDir/001.png/SYNOPHOTO_THUMB_XL.png", "#recycle/gone.png",
        "$RECYCLE.BIN/S-1/x.png", "System Volume Information/IndexerVolumeGuid", "lost+found/1.png", "dogs/Thumbs.db",
        "__MACOSX/dogs/._000.png",
    )  # fmt: skip
    others = ("cats/a.jfif", "cats/b.JFIF", "dogs/c.heic", "dogs/d.txt", "README", "dogs/clip.mp4")
    for name in (*litter, *others):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image)
    return folder


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_hidden_folders_and_litter_are_no_images_and_all_else_is_counted_by_extension(
    tmp_path: Path, kind: str
) -> None:
    source = littered(tmp_path / "src")
    if kind == "zip":
        source = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", source))
    made = Made(tmp_path / "out", "folder", source, "--resolutions", "64")
    clean = Made(tmp_path / "clean", "folder", photos(tmp_path / "photos_alone"), "--resolutions", "64")
    assert made.classes("class") == ("cats", "dogs")
    assert made.names == clean.names
    np.testing.assert_array_equal(made.pixels(), clean.pixels())
    files = made.manifest.notes
    assert len(files) == 3
    assert "6 files with no extension of an image: .jfif 2, .heic 1, .mp4 1, .txt 1, without one 1" in files[0]
    assert "rename the files to .jpg" in files[0]
    assert "5 files hidden, or in hidden folders: .png 4, .DS_Store 1" in files[1]
    assert "7 files that a system" in files[2]
    assert ".png 5, .db 1, without one 1" in files[2]
    for note in files:
        assert f"note: {note}" in made.out
        assert note in run("info", made.root).out


def test_the_clean_folder_has_no_note_on_files(tmp_path: Path) -> None:
    made = Made(tmp_path / "out", "folder", photos(tmp_path / "src"), "--resolutions", "64")
    assert not any("left out" in note for note in made.manifest.notes)


def test_a_folder_of_other_files_alone_is_refused_with_their_count(tmp_path: Path) -> None:
    (tmp_path / "src/.thumbs").mkdir(parents=True)
    for name in ("a.heic", "b.heic", ".thumbs/a.png"):
        (tmp_path / "src" / name).write_bytes(b"x")
    refused(
        attempt("folder", tmp_path / "src"), tmp_path / "src", "holds no images", ".heic 2", "hidden", "name a folder"
    )


def test_a_pipe_named_like_an_image_is_reported_and_not_waited_for(tmp_path: Path) -> None:
    source = photos(tmp_path / "src", 2)
    os.mkfifo(source / "pipe.png")
    (source / "link.png").symlink_to(source / "pipe.png")
    outcome = attempt("folder", source)
    refused(outcome, "2 problems", "pipe.png: is no file; remove it", "link.png: is no file")
    assert attempt("folder", source, "--on-bad", "skip").code == 0


def test_names_that_are_no_utf_8_are_kept(tmp_path: Path) -> None:
    """As archives of other systems unpack them: Latin-1 in class, file and extension."""
    source = photos(tmp_path / "src", 4)
    os.rename(source / "cats", os.fsencode(source) + b"/caf\xe9s")
    (source / "dogs/002.png").rename(source / "dogs" / os.fsdecode(b"\xfcber.png"))
    Path(os.fsdecode(os.fsencode(source) + b"/x.\xe9")).write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(source) + b"/dogs/bad\xe9.png")).write_bytes(b"x")
    refused(attempt("folder", source), "bad", "not a readable image")
    made = Made(tmp_path / "set", "folder", source, "--resolutions", "64", "--on-bad", "skip")
    assert made.labels["class"] == [0, 0, 1, 1]
    assert made.classes("class") == ("caf\\xe9s", "dogs")
    assert (
        "already complete"
        in run("make", "folder", source, "--out", made.root, "--resolutions", "64", "--on-bad", "skip").out
    )


def test_a_set_is_made_in_the_folder_of_its_images_and_made_again(tmp_path: Path) -> None:
    source = photos(tmp_path / "src")
    first = Made(source / "shards", "folder", source, "--resolutions", "64")
    second = Made(tmp_path / "second", "folder", source, "--resolutions", "64")
    assert hashes(first.root) == hashes(second.root)


def test_tars_that_macos_put_beside_a_set_are_none_of_it(tmp_path: Path) -> None:
    root = make_dsprites(tmp_path / "set", 8, per_shard=4)
    before = hashes(root)
    (root / "64/._00000.tar").write_bytes(b"\0\5\26\7")
    assert run("check", root, "--workers", 1).code == 0
    assert run("index", root).code == 0
    (root / "64/._00000.tar").unlink()
    assert hashes(root) == before


def test_a_new_disk_is_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "set/lost+found").mkdir(parents=True)
    (tmp_path / "set/.DS_Store").write_bytes(b"x")
    make_dsprites(tmp_path / "set", 4)


def test_hidden_copies_of_the_files_of_published_sets_are_not_read(tmp_path: Path) -> None:
    """Jupyter copies what it shows, and macOS leaves files of the same extension beside all."""
    for kind, source in (
        ("cars", replicas.cars(tmp_path / "cars", 4)),
        ("celeba", replicas.celeba(tmp_path / "celeba", 3)),
        ("celeba_hq", replicas.celeba_hq(tmp_path / "records", 2, "tfrecords", size=64)),
        ("celeba_hq", replicas.celeba_hq(tmp_path / "parquet", 2, "parquet", size=64)),
    ):
        clean = Made(tmp_path / f"{source.name} alone", kind, source, "--resolutions", "64")
        for path in [path for path in source.rglob("*") if path.is_file()]:
            (path.parent / f"._{path.name}").write_bytes(b"\0\5\26\7")
            (path.parent / ".ipynb_checkpoints").mkdir(exist_ok=True)
            (path.parent / ".ipynb_checkpoints" / path.name).write_bytes(b"x")
        made = Made(tmp_path / f"{source.name} among copies", kind, source, "--resolutions", "64")
        assert made.names == clean.names
        assert made.labels == clean.labels
        np.testing.assert_array_equal(made.pixels(), clean.pixels())
