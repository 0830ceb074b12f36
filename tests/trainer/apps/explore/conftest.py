"""Servers of shipped models that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.exploring import Server, exploring

FACES, SPRITES, STAGE_1 = "pretrained/faces-64-idgan", "pretrained/dsprites-idgan", "pretrained/dsprites-beta_vae"


@pytest.fixture(scope="package")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with exploring(FACES, tmp_path_factory.mktemp("faces")) as server:
        yield server


@pytest.fixture(scope="package")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with exploring(SPRITES, tmp_path_factory.mktemp("sprites")) as server:
        yield server


@pytest.fixture(scope="package")
def stage_1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with exploring(STAGE_1, tmp_path_factory.mktemp("stage_1")) as server:
        yield server
