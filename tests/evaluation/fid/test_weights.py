"""Files of the Inception networks: another one than before is refused, and half of one is never left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.fid import network
from common.errors import UserError
from evaluation.fid import extractors
from evaluation.inputs.results import Results
from evaluation.published_networks import inception
from trainer.config.sections import InceptionConfig


def test_other_weights_than_before_are_refused(tmp_path: Path) -> None:
    config, cpu, run = InceptionConfig(), torch.device("cpu"), tmp_path / "run"
    run.mkdir()
    first = network(tmp_path)
    extractors.record(Results(run), extractors.load("clean", config, first, Results(run), cpu, extractors.PLAIN))
    (tmp_path / "b").mkdir()
    torch.manual_seed(1)
    second = tmp_path / "b" / "other.pt"
    second.write_bytes(first.read_bytes() + b"\0")
    with pytest.raises(UserError, match="first numbers of clean are of"):
        extractors.load("clean", config, second, Results(run), cpu, extractors.PLAIN)
    wanted = InceptionConfig(clean_sha256="0" * 64)
    with pytest.raises(UserError, match=r"inception.clean_sha256 is 0000"):
        extractors.load("clean", wanted, first, None, cpu, extractors.PLAIN)


def test_weights_cannot_be_fetched_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.error import URLError

    def offline(url: str, file: str) -> None:
        Path(file).write_bytes(b"half")
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    path = tmp_path / "weights" / "x.pt"
    with pytest.raises(UserError, match=r"cannot be fetched .*no network.*copy the file"):
        inception.fetch("clean", path)
    assert not list(path.parent.iterdir())
