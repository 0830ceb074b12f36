"""What a run writes for its user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.training import VAE
from trainer.config.load import load_config
from trainer.config.schema import VaeConfig
from trainer.reporting.status import MOST_PX, Status
from trainer.reporting.tracker_kinds import Grid

Sent = list[tuple[int, dict[str, float], Grid | None]]
PROGRESS = {"eta_seconds": 1.0, "seconds_per_kimg": 2.0, "data_wait": 0.5, "memory_gb": 0.1, "resolution": 64}


@pytest.fixture
def sent() -> Sent:
    return []


@pytest.fixture
def status(tmp_path: Path, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> Status:
    """Of a run without trackers; what they would have been sent is in `sent`."""
    status = Status(tmp_path, load_config(VaeConfig, Path(VAE), ["trackers=[]"]), 100, 0)
    monkeypatch.setattr(status.trackers, "send", lambda *report: sent.append(report))
    return status


def test_a_large_grid_is_whole_in_its_file_and_small_in_trackers(tmp_path: Path, status: Status, sent: Sent) -> None:
    images = torch.randint(256, (32, 1, 256, 256), dtype=torch.uint8)
    status.samples(7, images)
    status.close()
    path = tmp_path / "samples" / "000000000007.png"
    with Image.open(path) as picture:
        found = np.asarray(picture)
    assert found.shape == (2 * 258 + 2, 16 * 258 + 2, 3)
    assert np.array_equal(found[2:258, 2:258, 0], images[0, 0].numpy())
    assert np.array_equal(found[260:516, 260:516, 2], images[17, 0].numpy())
    ((clock, values, grid),) = sent
    assert (clock, values) == (7, {})
    assert grid is not None
    assert grid.file == path
    assert MOST_PX / 2 < grid.picture.width <= MOST_PX


def test_what_an_iteration_reports_is_sent_as_one_and_once(status: Status, sent: Sent) -> None:
    """Its numbers alone, without words such as `speed`."""
    status.step(4)
    status.tick(8, PROGRESS | {"speed": "exact"}, {"loss": 3.0}, partial=False)
    status.samples(8, torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
    status.step(8)
    status.step(12)
    status.tick(16, PROGRESS, {"loss": 2.0}, partial=False)  # and then an error comes
    status.close()
    assert [(clock, values) for clock, values, _ in sent] == [
        (8, PROGRESS | {"loss": 3.0}),
        (16, PROGRESS | {"loss": 2.0}),
    ]
    assert [grid is not None for *_, grid in sent] == [True, False]
