"""Runs of v0.1 that the present code took to their ends."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .fixture_files import MIDWAY, STAGES, Resume, command, unpack_run


@pytest.fixture(scope="module")
def resume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resume]:
    """Run a run of v0.1 to its end, once for all tests, by its own config.yaml, whatever names stand there."""
    places: dict[str, Path] = {}  # FactorVAE's critic has 100 MB in each checkpoint, nearly all of it zero

    def resumed(name: str) -> Path:
        if name not in places:
            place = unpack_run(tmp_path_factory.mktemp(name), name)
            told = command(place, "trainer", STAGES[name], f"runs/{name}/config.yaml").err
            assert f"resuming runs/{name} at {MIDWAY[name]} images" in told
            places[name] = place
        return places[name]

    yield resumed
    for place in places.values():
        shutil.rmtree(place)
