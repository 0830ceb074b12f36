"""What a long command says of how far it is where no terminal shows a bar."""

from __future__ import annotations

import logging
import re

import pytest

from common import progress
from common.progress import progress_bar


def test_a_file_gets_a_line_a_minute(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with caplog.at_level(logging.INFO), progress_bar() as bar:
        task = bar.add_task("fid", total=1000)
        bar.advance(task, 100)  # what an earlier call had done
        for _ in range(60):
            clock[0] += 5
            bar.advance(task, 10)
    told = [re.sub(r"\s+", " ", record.message) for record in caplog.records]
    assert told == [
        "fid: 220 of 1,000 | eta 0:06:30",
        "fid: 340 of 1,000 | eta 0:05:30",
        "fid: 460 of 1,000 | eta 0:04:30",
        "fid: 580 of 1,000 | eta 0:03:30",
        "fid: 700 of 1,000 | eta 0:02:30",
    ]


def test_what_is_not_shown_says_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 1e6)
    with caplog.at_level(logging.INFO), progress_bar(shown=False) as bar:
        bar.advance(bar.add_task("fid", total=10), 5)
    assert not caplog.records
