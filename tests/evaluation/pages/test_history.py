"""What a page tells of a run's ticks."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from evaluation.pages.charts import curves
from evaluation.pages.page import image
from trainer.reporting.cost import spent

TICKS = [
    {"images_seen": 1000, "seconds_per_kimg": 10.0, "processes": 8, "d": 1.0},
    {"images_seen": 3000, "seconds_per_kimg": 20.0, "processes": 4, "d": 2.0, "kl": 0.5},
]


def test_a_run_that_went_on_with_fewer_processes_counts_the_hours_of_each() -> None:
    """1,000 images at 10 s/kimg on 8, then 2,000 at 20 s/kimg on 4: 10 s and 40 s, 80 + 160 of processes."""
    took = spent(TICKS, 1)
    assert (took.seconds, took.process_seconds, took.images, took.processes) == (50.0, 240.0, 3000, "8, 4")


def test_ticks_of_an_earlier_version_count_as_the_checkpoint_says() -> None:
    took = spent([{name: tick[name] for name in ("images_seen", "seconds_per_kimg")} for tick in TICKS], 2)
    assert (took.process_seconds, took.processes) == (100.0, "2")


def test_a_term_that_came_later_has_a_curve() -> None:
    """Such as that of a part that --accept-changes let in."""
    found = re.search(r"base64,([^\"]*)", curves("stage 2", TICKS, ["d", "kl"]))
    assert found is not None
    assert base64.b64decode(found[1]).startswith(b"<?xml")


def test_a_picture_that_pillow_takes_for_a_bomb_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses twice MAX_IMAGE_PIXELS."""
    Image.new("RGB", (3000, 40), (9, 8, 7)).save(tmp_path / "wide.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "wide.png")
    found = re.search(r"base64,([^\"]*)", image(tmp_path / "wide.png"))
    assert Image.MAX_IMAGE_PIXELS == 1000
    monkeypatch.undo()
    assert found is not None
    assert Image.open(io.BytesIO(base64.b64decode(found[1]))).size == (1500, 20)
