"""A run of stage 2 with several checkpoints, for what FID is measured of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.evaluating import unmeasured
from tests.support.training import finish, train


@pytest.fixture(scope="module")
def run(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN with s and three checkpoints."""
    path = tmp_path_factory.mktemp("fid") / "run"
    finish(train("gan", sprites, path, 3, vae=vae, s_dim=4, schedule__save_kimg=0.016, schedule__keep_last=3))
    return path


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The run without what earlier evaluations left."""
    return unmeasured(run, tmp_path / "run")
