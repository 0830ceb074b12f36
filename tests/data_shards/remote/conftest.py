"""A set of two levels, on a disk and behind an HTTP server that a test may change."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.paths import Location, Url
from data_shards.read.loader import Batch, batches, open_dataset
from data_shards.remote import requests
from tests.support.data_sets import make_dsprites
from tests.support.file_server import FileServer, serving


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dsprites(tmp_path_factory.mktemp("remote") / "set", 50, "128,64", per_shard=16)


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of the set, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "set"))


@pytest.fixture
def server(root: Path) -> Iterator[FileServer]:
    with serving(root) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "WAITS", (0.0,) * len(requests.WAITS))


def take(root: Location | str, count: int = 7, **options: object) -> list[Batch]:
    """Batches of 10 images at 128 px with those for an encoder at 64 px: more than an epoch of the 50."""
    place = Url(root) if isinstance(root, str) else root
    levels = [open_dataset(place, 128), open_dataset(place, 64)]
    stream = batches(*levels, **{"seed": 3, "start": 5, "batch_size": 10, **options})  # type: ignore[arg-type]
    taken = list(itertools.islice(stream, count))
    stream.close()  # type: ignore[attr-defined]
    return taken


def same(one: list[Batch], other: list[Batch]) -> bool:
    """Whether all tensors of two lists of batches are equal, bit for bit."""
    pairs = list(zip(one, other, strict=True))
    return all(a is not None and b is not None and a.equal(b) for x, y in pairs for a, b in zip(x, y, strict=True))
