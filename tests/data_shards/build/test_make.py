"""`make` writes the same bytes every time, resumes after a kill, and never leaves a half-written set."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_shards.build import make_set
from data_shards.build.hashed_file import HashedFile
from data_shards.build.output_folder import claimed
from data_shards.build.recipe import Settings, recipe_of
from data_shards.format import manifest
from data_shards.format.manifest import Codec
from data_shards.read.loader import open_dataset
from data_shards.sources.sprites.dsprites import dsprites
from tests.support.data_sets import hashes, make_dsprites, mounted, photos, refused, run


def folder(source: Path, out: Path, *more: object) -> None:
    outcome = run("make", "folder", source, "--out", out, "--resolutions", "128,64,32", *more)
    assert outcome.code == 0, outcome.err


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    one = hashes(make_dsprites(tmp_path / "one", workers=1))
    assert one == hashes(make_dsprites(tmp_path / "two", workers=2))
    assert one.keys() == {"manifest.json", "64/index.npz", "64/00000.tar", "64/00001.tar", "64/00002.tar"}


def test_faces_drawn_by_any_number_of_workers_are_the_same_bytes(tmp_path: Path) -> None:
    made = {}
    for workers in (1, 2):
        options = "--resolutions", "256,64", "--samples-per-shard", 2, "--workers", workers
        assert run("make", "faces", "--out", tmp_path / str(workers), "--count", 4, *options).code == 0
        made[workers] = hashes(tmp_path / str(workers))
    assert made[1] == made[2]
    assert len(made[1]) == 1 + 2 + 4


def test_the_same_photos_give_the_same_bytes(tmp_path: Path) -> None:
    photos(tmp_path / "src")
    for name in ("a", "b"):
        folder(tmp_path / "src", tmp_path / name, "--workers", 1, "--samples-per-shard", 4)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


COMMAND = ["make", "dsprites", "--count", 2000, "--samples-per-shard", 50]


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole = make_dsprites(tmp_path / "whole", 2000, per_shard=50)
    out = tmp_path / "killed"
    command = [*map(str, COMMAND), "--out", str(out), "--workers", "2"]
    # An interpreter of its own, as users have it: what is forked here does not hand its end on to its own workers.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "data_shards", *command], env=environment)
    deadline = time.monotonic() + 120
    while not list(out.glob(".parts/00003.npz")):
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (out / "manifest.json").exists()
    refused(run("info", out), out / "manifest.json", "unfinished", "again")
    # A shard is finished when its part is: a tar alone may be one that the kill came just after.
    finished = [out / "64" / f"{part.stem}.tar" for part in (out / ".parts").glob("*.npz")]
    kept = {tar.name: tar.stat().st_mtime_ns for tar in finished}
    assert kept
    assert run(*command).code == 0
    assert hashes(out) == hashes(whole)
    assert kept == {name: (out / "64" / name).stat().st_mtime_ns for name in kept}, "finished shards are kept"


def test_a_damaged_shard_of_an_unfinished_run_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hashes(make_dsprites(tmp_path / "whole"))
    monkeypatch.setattr(make_set.index, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    args = [
        "make",
        "dsprites",
        "--count",
        48,
        "--samples-per-shard",
        16,
        "--workers",
        1,
        "--out",
        tmp_path / "set",
    ]
    stopped = run(*args)
    assert stopped.code == 75
    assert "the same command resumes" in stopped.err
    monkeypatch.undo()
    tar = tmp_path / "set/64/00001.tar"
    tar.write_bytes(b"x" * tar.stat().st_size)
    (tmp_path / "set/64/00002.tar.tmp").write_bytes(b"left over")
    (tmp_path / "set/.parts/00000.npz").write_bytes(b"")
    (tmp_path / "set/.parts/00002.npz").write_bytes(b"PK\x03\x04 cut short")
    assert run(*args).code == 0
    assert hashes(tmp_path / "set") == whole


def test_a_second_make_in_one_folder_is_refused_while_the_first_writes(tmp_path: Path) -> None:
    args = ["make", "dsprites", "--count", 48, "--samples-per-shard", 16, "--workers", 1, "--out", tmp_path / "set"]
    source = dsprites(48, 64)
    settings = Settings((64,), Codec(), 16)
    with claimed(tmp_path / "set", recipe_of(source, settings), source):
        (tmp_path / "set/64").mkdir()
        live = tmp_path / "set/64/00000.tar.tmp"
        live.write_bytes(b"in progress")
        refused(run(*args), f"--out is {tmp_path / 'set'}", "another `make` writes there")
        assert live.exists()
    assert run(*args).code == 0
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_complete_set_whose_index_is_damaged_is_not_called_complete(tmp_path: Path) -> None:
    out = make_dsprites(tmp_path / "set")
    (out / "64/index.npz").write_bytes(b"x")
    args = ["make", "dsprites", "--count", 48, "--samples-per-shard", 16, "--workers", 1, "--out", out]
    refused(run(*args), out / "64/index.npz", "sha256", f"index {out}")


def test_the_manifest_is_the_last_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[str] = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (published.append(Path(b).name), real(a, b)))
    make_dsprites(tmp_path / "set")
    assert published[-2:] == ["index.npz", "manifest.json"]
    assert published.count("manifest.json") == 1


def test_a_set_of_another_size_is_refused_with_both_counts(tmp_path: Path) -> None:
    """A complete one, an unfinished one, and one begun before the count was kept: only the listing's hash is told."""
    out, source = make_dsprites(tmp_path / "set"), dsprites(48, 64)
    more = ("--count", 64, "--samples-per-shard", 16, "--workers", 1)
    refused(run("make", "dsprites", "--out", out, *more), f"--out is {out}", "(count: 48 there, 64 now)")
    half = tmp_path / "half"
    with claimed(half, recipe_of(source, Settings((64,), Codec(), 16)), source):
        pass
    refused(run("make", "dsprites", "--out", half, *more), f"--out is {half}", "(count: 48 there, 64 now)")
    begun = json.loads((half / ".parts/recipe.json").read_text())
    del begun["count"]
    (half / ".parts/recipe.json").write_text(json.dumps(begun))
    refused(run("make", "dsprites", "--out", half, *more), f"(files: {source.listing_sha256} there, ")
    assert run("make", "dsprites", "--out", half, "--count", 48, *more[2:]).code == 0


def test_a_complete_set_is_left_alone(tmp_path: Path) -> None:
    out = make_dsprites(tmp_path / "set")
    before = hashes(out)
    again = run("make", "dsprites", "--out", out, "--count", 48, "--samples-per-shard", 16)
    assert again.code == 0
    assert "already complete" in again.out
    other = run("make", "dsprites", "--out", out, "--count", 48, "--samples-per-shard", 8)
    refused(other, out, "samples_per_shard: 16 there, 8 now", "choose another folder")
    assert hashes(out) == before


def test_a_folder_with_other_things_in_it_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    refused(run("make", "dsprites", "--out", tmp_path, "--count", 5), tmp_path, "not empty", "choose another")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_members_carry_no_trace_of_time_or_user(tmp_path: Path) -> None:
    with tarfile.open(make_dsprites(tmp_path / "set") / "64/00000.tar") as tar:
        for info in tar:
            assert (info.mtime, info.uname, info.gname, info.uid, info.gid, info.mode) == (
                0,
                "idgan",
                "idgan",
                0,
                0,
                0o444,
            )
            assert not info.pax_headers
            assert info.name.split(".")[0].isdigit()


def test_photos_are_cropped_resized_and_pooled_as_pillow_and_numpy_say(tmp_path: Path) -> None:
    source = photos(tmp_path / "src", 4, (160, 140))
    folder(source, tmp_path / "set", "--workers", 1)
    found = manifest.load(tmp_path / "set")
    assert found.labels[0].classes == ("cats", "dogs")
    names = sorted(p.relative_to(source).as_posix() for p in source.rglob("*.png"))
    top = open_dataset(tmp_path / "set", 128)
    assert top.labels["class"].tolist() == [0, 0, 1, 1]
    for i, name in enumerate(names):
        square = Image.open(source / name).crop((10, 0, 150, 140)).resize((128, 128), Image.Resampling.LANCZOS)
        large = np.asarray(square).transpose(2, 0, 1)
        np.testing.assert_array_equal(top.read_samples(np.array([i]))[0].numpy(), large)
        for size, k in ((64, 2), (32, 4)):
            mean = np.floor(large.astype(np.float64).reshape(3, size, k, size, k).mean((2, 4)) + 0.5)
            np.testing.assert_array_equal(open_dataset(tmp_path / "set", size).read_samples(np.array([i]))[0], mean)
    with tarfile.open(tmp_path / "set/128/00000.tar") as tar:
        note = json.load(tar.extractfile("000000003.json"))  # type: ignore[arg-type]
    assert note["name"] == names[3]
    assert note["md5"] == hashlib.md5(large.tobytes()).hexdigest()
    assert run("check", tmp_path / "set", "--workers", 1).code == 0


@pytest.mark.parametrize("codec", ["webp", "jpeg"])
def test_other_codecs(tmp_path: Path, codec: str) -> None:
    source = photos(tmp_path / "src", 3)
    folder(source, tmp_path / "png", "--workers", 1)
    folder(source, tmp_path / codec, "--workers", 1, "--codec", codec, "--quality", 95)
    assert run("check", tmp_path / codec, "--workers", 1).code == 0
    for size in (128, 32):
        plain, other = (open_dataset(tmp_path / c, size).read_samples(np.arange(3)).int() for c in ("png", codec))
        assert (plain - other).abs().max() <= (0 if codec == "webp" else 24)


def test_info(tmp_path: Path) -> None:
    out = make_dsprites(tmp_path / "set")
    facts = json.loads(run("info", out, "--json").out)
    assert facts["count"] == 48
    assert facts["levels"]["64"]["shards"] == 3
    assert facts["hash"] == hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest()
    assert "dsprites" in run("info", out).out


def test_a_full_disk_is_one_clear_error_and_the_run_goes_on(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not mounted(disk, 400):
        pytest.skip("mounting a small tmpfs needs root; the monkeypatched test covers the message")
    try:
        args = [
            "make",
            "dsprites",
            "--out",
            disk / "set",
            "--count",
            200,
            "--samples-per-shard",
            50,
            "--workers",
            1,
        ]
        refused(
            run(*args),
            disk / "set",
            "no space left on the device",
            "make room",
            "run the same command again",
        )
        assert not (disk / "set/manifest.json").exists()
        assert not list((disk / "set").rglob("*.tmp")), "a failed shard gives its space back"
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert run(*args).code == 0
        assert hashes(disk / "set") == hashes(make_dsprites(tmp_path / "whole", 200, per_shard=50))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_no_space_while_a_shard_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def enter(self: HashedFile) -> HashedFile:
        self._stream = Full()
        return self

    monkeypatch.setattr(HashedFile, "__enter__", enter)
    outcome = run("make", "dsprites", "--out", tmp_path / "set", "--count", 20, "--workers", 1)
    refused(outcome, tmp_path / "set/64/00000.tar", "no space left on the device", "make room")


def test_a_run_killed_right_after_its_manifest_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(make_set.shutil, "rmtree", killed)
    args = ["make", "dsprites", "--count", 20, "--workers", 1, "--out", tmp_path / "set"]
    assert run(*args).code == 75
    monkeypatch.undo()
    assert (tmp_path / "set/.parts").exists()
    assert open_dataset(tmp_path / "set", 64).count == 20
    assert "already complete" in run(*args).out
    assert not (tmp_path / "set/.parts").exists()
