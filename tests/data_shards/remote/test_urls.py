"""A set at a URL gives what the same set on a disk gives, or one clear error."""

from __future__ import annotations

import io
import json
import logging
import shutil
import socket
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from common.errors import Fault, UserError
from common.paths import Url, typed_location
from data_shards.format import index, manifest
from data_shards.read.loader import open_dataset
from data_shards.remote import requests
from tests.support.data_sets import make_dsprites, refused, run
from tests.support.file_server import FileServer
from trainer.config.sections import DataConfig
from trainer.stages.data import open_data

from .conftest import same, take


def test_batches_from_a_memory_store_are_those_from_the_disk(root: Path) -> None:
    fsspec.filesystem("memory").put(str(root), "/bucket/set", recursive=True)
    assert same(take("memory://bucket/set"), take(root))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_over_http_are_those_from_the_disk(server: FileServer, root: Path, workers: int) -> None:
    assert same(take(server.url, workers=workers), take(root))
    asked = [asked for path, asked in server.requests if path.endswith(".tar")]
    assert len(asked) >= 7 * 10 * 2  # an image at each level
    assert None not in asked
    assert server.whole("manifest.json") == 2  # one for each level that the test opened by itself
    assert server.whole("64/index.npz") == server.whole("128/index.npz") == 1


def test_the_samples_of_a_batch_are_asked_for_at_once(server: FileServer, root: Path) -> None:
    level = open_dataset(Url(server.url), 64)
    server.latency = 0.2
    began = time.monotonic()
    level.read_samples(np.arange(50))
    assert time.monotonic() - began < 50 * 0.2 / 3


def test_info_and_check_read_a_url(server: FileServer, root: Path) -> None:
    assert json.loads(run("info", server.url, "--json").out) == json.loads(run("info", root, "--json").out)
    sound = run("check", server.url, "--workers", 1)
    assert (sound.code, sound.out) == (0, f"sound: {server.url}: 50 images at 128 px, 64 px in 4 shards each\n")
    tar = root / "64" / "00001.tar"
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    refused(run("check", server.url, "--workers", 1), f"{server.url}/64/00001.tar", "sha256 is", "copy")


def test_a_server_without_ranges_is_refused_before_a_tar_is_asked_for(server: FileServer) -> None:
    server.ranges = False
    with pytest.raises(UserError, match=r"manifest.json: the server ignores byte ranges: .*copy the set to a disk"):
        open_dataset(Url(server.url), 64)
    assert not [path for path, _ in server.requests if path.endswith(".tar")]


def test_requests_that_fail_now_and_then_are_made_again(server: FileServer, root: Path) -> None:
    server.fail_every = 10
    assert same(take(server.url), take(root))
    assert server.failed > 10


def test_a_server_that_fails_for_good_ends_in_one_error(server: FileServer) -> None:
    level = open_dataset(Url(server.url), 64)
    server.status = 503
    before = len(server.requests)
    with pytest.raises(Fault, match=r"00000.tar: does not answer any more, after 6 tries \(.*503.*\); run the same"):
        level.read_samples(np.array([0]))
    assert len(server.requests) - before == 6


def test_the_waits_between_tries_grow(monkeypatch: pytest.MonkeyPatch, server: FileServer) -> None:
    waited, waits = (0.1, 0.5, 2.0, 8.0, 30.0), list[float]()
    monkeypatch.setattr(requests, "WAITS", waited)
    monkeypatch.setattr(requests.time, "sleep", waits.append)
    server.status = 500
    refused(run("info", server.url), server.url, "does not answer")
    waits = [seconds for seconds in waits if seconds]  # the server, which has no latency, sleeps 0 s
    assert len(waits) == 5
    assert all(wait / 2 <= slept <= wait * 3 / 2 for wait, slept in zip(waited, waits, strict=True))


def test_a_url_that_nobody_answers_at(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/set"
        refused(run("info", url), f"{url}/manifest.json", "does not answer", "check the URL and the network")


def test_a_url_without_a_set(server: FileServer) -> None:
    refused(run("info", f"{server.url}/other"), f"{server.url}/other/manifest.json: not found", "correct the URL")


def test_an_unknown_kind_of_url() -> None:
    refused(run("info", "carrier-pigeon://bucket/set"), "carrier-pigeon://bucket/set", "correct the URL")


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_told_at_once(server: FileServer, status: int) -> None:
    server.status = status
    refused(run("info", server.url), f"{server.url}/manifest.json: access is refused", str(status), "credentials")
    assert len(server.requests) == 1


def test_a_client_that_is_not_installed() -> None:
    fsspec.register_implementation("absent", "no_such_client.FileSystem", clobber=True, errtxt="Install no_such_client")
    refused(run("info", "absent://bucket/set"), "absent://bucket/set", "no_such_client", "pip install 'idgan[remote]'")


class NoCredentialsError(Exception):
    """As botocore raises it; a client of S3 is not needed to run the tests."""


class _Locked(MemoryFileSystem):
    protocol = "locked"

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: object) -> bytes:
        raise NoCredentialsError("Unable to locate credentials")


def test_credentials_that_are_missing() -> None:
    fsspec.register_implementation("locked", _Locked, clobber=True)
    refused(run("info", "locked://bucket/set"), "locked://bucket/set", "Unable to locate credentials", "FSSPEC_S3_ANON")


def test_a_manifest_that_changed_under_a_run(server: FileServer, root: Path, tmp_path: Path) -> None:
    level = open_dataset(Url(server.url), 64)
    before = manifest.load(root).hash
    other = make_dsprites(tmp_path / "other", 48, "128,64", per_shard=16)
    shutil.copytree(other, root, dirs_exist_ok=True)
    with pytest.raises(UserError) as error:
        level.read_samples(np.arange(48))
    for words in (f"{server.url}/manifest.json: has changed", before, manifest.load(root).hash, "begin a new run"):
        assert words in str(error.value)


def test_a_damaged_byte_is_found_by_the_checksum(server: FileServer, root: Path) -> None:
    table = index.load(root, manifest.load(root).level(64))
    tar, byte = root / "64" / "00000.tar", int(table["offset"][3] + table["length"][3] - 13)  # of a checksum of PNG's
    data = bytearray(tar.read_bytes())
    data[byte] ^= 1
    tar.write_bytes(data)
    level = open_dataset(Url(server.url), 64)
    assert level.read_samples(np.array([0, 1, 2, 4])).shape == (4, 1, 64, 64)
    with pytest.raises(UserError, match=rf"{server.url}/64/00000.tar: sample 3 at byte \d+ has another crc32c.*check"):
        level.read_samples(np.array([2, 3]))


def test_a_tar_that_is_not_there(server: FileServer, root: Path) -> None:
    (root / "64" / "00002.tar").unlink()
    level = open_dataset(Url(server.url), 64)
    with pytest.raises(UserError, match=rf"{server.url}/64/00002.tar: not found; copy the set there again"):
        level.read_samples(np.array([40]))


def as_of_an_older_version(root: Path) -> None:
    """Take the checksums out of a set, as 0.2.0 wrote it."""
    content = json.loads((root / manifest.FILE).read_bytes())
    for level in content["levels"].values():
        path = root / level["folder"] / level["index"]
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            table = {name: values for name, values in arrays.items() if name != "crc32c"}
        level["index_sha256"] = index.save(path.parent, table)
    (root / manifest.FILE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def test_an_older_set_is_read_unchecked_and_this_is_told_once(
    server: FileServer, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = take(root)
    as_of_an_older_version(root)
    with caplog.at_level(logging.WARNING):
        data = open_data(DataConfig(path=server.url), 0, (64, 128))
    assert [record.message.partition(":")[0] for record in caplog.records] == ["warning"]
    assert "no crc32c" in caplog.text
    assert not any(level.is_checked for level in data.levels.values())
    assert same(take(server.url), expected)


def test_indexing_an_older_set_again_keeps_its_identity(root: Path) -> None:
    as_of_an_older_version(root)
    before = manifest.load(root).hash
    assert run("index", root, "--workers", 1).code == 0
    assert manifest.load(root).hash == before


def test_checksums_are_those_of_the_stored_images(root: Path) -> None:
    """Against a table-free CRC with Castagnoli's polynomial, bit by bit."""
    level, table = open_dataset(root, 64), index.load(root, manifest.load(root).level(64))
    for sample in (0, 17, 49):
        crc = 0xFFFFFFFF
        for byte in next(level.read_files([sample])):
            crc ^= byte
            for _ in range(8):
                crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
        assert int(table["crc32c"][sample]) == crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("url", ["https://me:secret@host/set", "https://host/set?sig=secret", "s3://bucket/set#1"])
def test_a_url_that_would_give_a_secret_away_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="give credentials in the environment"):
        typed_location(url)
    refused(run("info", url), "credentials")
