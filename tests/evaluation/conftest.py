"""Tiny runs of the systems, trained once for all tests of evaluation."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.support.training import finish, train_system, two_at_a_time


@pytest.fixture(scope="session")
def systems(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Five iterations of 16 of each system; a second InfoGAN of another seed and eight of 8; a GAN on Color."""
    root = tmp_path_factory.mktemp("systems")
    begin = partial(train_system, data=sprites, steps=5)
    on_vae = {"vae": root / "factor_vae"}
    starts = [partial(begin, system, run=root / system) for system in ("factor_vae", "gan", "infogan")]
    starts.append(partial(begin, "infogan", run=root / "infogan_again", seed=1, steps=4, batch_size=8))
    starts.append(partial(begin, "cgan", run=root / "cgan", **on_vae))
    starts.append(partial(begin, "idgan", run=root / "idgan", s_dim=4, **on_vae))
    starts.append(partial(begin, "gan", run=root / "color", steps=2, data__variant="color"))
    for running in two_at_a_time(starts):
        finish(running)
    return {path.name: path for path in root.iterdir() if path.name != "logs"}
