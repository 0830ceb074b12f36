"""How long a process waits for a batch: the time that it waits itself, not that of the clock."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from common.errors import Fault
from data_shards.read.loader import Batch
from trainer import batch_stream
from trainer.batch_stream import BatchStream
from trainer.distributed.world import ALONE
from trainer.jobs.signals import StopRequest
from trainer.reporting.tick_timer import TickTimer

MINUTES = 0.2 / 60


@pytest.fixture(autouse=True)
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_stream, "POLL", 0.05)


def late(released: threading.Event) -> Iterator[Batch]:
    """Batches that come once they are released."""
    for _ in itertools.count():
        released.wait(60)
        yield Batch  # type: ignore[misc]  # nothing looks into it


def test_an_hour_of_suspension_is_not_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    released, calls, now = threading.Event(), itertools.count(), time.monotonic

    def suspended() -> float:
        """The clock of a process that `scontrol suspend` stopped for an hour while it waited: it jumps once."""
        call = next(calls)
        if call == 8:
            released.set()
        return now() + (3600 if call >= 4 else 0)

    stream = BatchStream(late(released), "data", MINUTES, ALONE)
    timer = TickTimer(0)
    monkeypatch.setattr(time, "monotonic", suspended)
    batches = stream.take(1, StopRequest(), timer)
    stream.close()
    assert batches is not None
    assert len(batches) == 1
    assert next(calls) > 8  # it waited on both sides of the jump


def test_a_batch_that_does_not_come_is_a_fault() -> None:
    stream, start = BatchStream(late(threading.Event()), "data", MINUTES, ALONE), time.monotonic()
    with pytest.raises(Fault, match=r"minutes for a batch of data \(data\.timeout_minutes: "):
        stream.take(1, StopRequest(), TickTimer(0))
    assert time.monotonic() - start < 5
