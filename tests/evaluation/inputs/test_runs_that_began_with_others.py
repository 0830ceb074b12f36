"""A run that started from the networks of another is evaluated like any other; its own inputs are still compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserError
from evaluation.inputs.run import open_run
from tests.support import processes
from tests.support.data_sets import make_dsprites
from tests.support.training import finish, train


def test_a_run_with_init_from_and_its_export_can_be_opened(sprites: Path, vae: Path, tmp_path: Path) -> None:
    finish(train("gan", sprites, tmp_path / "source", 1, vae=vae))
    run = tmp_path / "run"
    finish(train("gan", sprites, run, 1, vae=vae, init_from=tmp_path / "source"))
    assert "init_from" in open_run(run).manifest["facts"]
    finish(processes.command("trainer", ["export", run, tmp_path / "export"], tmp_path / "logs"))
    assert open_run(tmp_path / "export").s_dim == 0
    other = make_dsprites(tmp_path / "other", count=128, per_shard=64)
    with pytest.raises(UserError, match="not what it was trained on"):
        open_run(run, data_path=other)
