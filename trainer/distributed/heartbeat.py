"""Who lives, and who waits for what: told by each process every few seconds, read when an exchange fails."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

BEAT = 5.0  # seconds
MOST_FAILURES = 3  # in a row
PATIENCE = timedelta(seconds=10)  # for an answer of the store, which the launcher or process 0 keeps


@dataclass
class _Sign:
    """What a process tells. beats: how often it has; waiting: for which exchange, or "" where it computes."""

    host: str
    beats: int
    waiting: str


class Heartbeat:
    """Tells the other processes that this one lives. waiting: the exchange that it takes part in, or ""."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size, self.waiting = rank, size, ""
        self._beats = 0
        # a connection of its own: on torch's, a call that waits keeps the others out
        store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=PATIENCE)
        self._store = dist.PrefixStore("heartbeat", store)
        self._tell()
        threading.Thread(target=self._keep_telling, daemon=True).start()

    def suspects(self) -> list[str]:
        """Name the processes that keep the others waiting, with host and reason. Takes about two beats."""
        signs: list[list[_Sign]] = []
        look = threading.Thread(target=self._look_twice, args=(signs,), daemon=True)  # it may never be answered
        look.start()
        look.join(2 * BEAT + PATIENCE.total_seconds())
        if len(signs) < 2:
            return ["process 0 is silent: it, or the launcher beside it, knows who is there"]
        pairs = enumerate(zip(*signs, strict=True))
        return [line for rank, (before, after) in pairs if (line := _suspicion(rank, before, after))]

    def _look_twice(self, signs: list[list[_Sign]]) -> None:
        """Add what every process tells now, and what it tells two beats later."""
        with suppress(RuntimeError):
            signs.append([_Sign(**_read(self._store, rank)) for rank in range(self.size)])
            time.sleep(2 * BEAT + 1)
            signs.append([_Sign(**_read(self._store, rank)) for rank in range(self.size)])

    def _tell(self) -> None:
        self._beats += 1
        sign = {"host": socket.gethostname(), "beats": self._beats, "waiting": self.waiting}
        self._store.set(str(self.rank), json.dumps(sign))

    def _keep_telling(self) -> None:
        failures = 0
        time.sleep(BEAT)
        while dist.is_initialized() and failures < MOST_FAILURES:  # the store ends with the process that keeps it
            try:
                self._tell()
                failures = 0
            except RuntimeError:
                failures += 1
            time.sleep(BEAT)


def _read(store: dist.Store, rank: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(store.get(str(rank)))
    return content


def _suspicion(rank: int, before: _Sign, after: _Sign) -> str | None:
    """Say why a process may be the one that is waited for, from two signs of it; None where it waits itself."""
    if after.beats == before.beats:
        where = f", which it last said it waited for {after.waiting}" if after.waiting else ""
        return f"process {rank} on {after.host} is silent{where}"
    if not (before.waiting or after.waiting):
        return f"process {rank} on {after.host} lives, but takes part in no exchange"
    return None
