"""The batches of the next iterations: no process waits in vain for one, and none waits without a look at signals."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from multiprocessing import active_children

from torch.profiler import record_function

from common.errors import Fault, UserError
from data_shards.read.awaited import Awaited
from data_shards.read.loader import Batch
from trainer.distributed.world import World
from trainer.jobs.signals import StopRequest
from trainer.reporting.tick_timer import TickTimer

CONTINUE, WAIT, LEAVE, FAIL = range(4)  # votes of the processes before an iteration
POLL = 2.0  # seconds that a process waits for a batch before it looks for signals


class BatchStream:
    """Takes this process's batches from a loader.

    batches: from the position where training stands on; source: what is read, for a message; timeout_minutes: how long
    a batch may take.
    """

    def __init__(self, batches: Iterator[Batch], source: str, timeout_minutes: float, world: World) -> None:
        self._awaited, self._source, self._timeout, self._world = Awaited(batches), source, timeout_minutes, world

    @record_function("data")
    def take(self, count: int, stop: StopRequest, timer: TickTimer) -> list[Batch] | None:
        """Return the batches of the next iteration, or None to save and leave instead, because of a signal.

        The processes vote: also while one of them waits for a batch, every few seconds. Where one cannot read its
        batches, all raise its error: a UserError, or a Fault where a batch takes too long.
        """
        batches: list[Batch] = []
        waited = 0.0  # seconds; a job that was suspended, as by `scontrol suspend`, did not wait meanwhile
        while True:
            error: Exception | None = None
            with timer.waiting():
                try:
                    waited += self._fill(batches, count)
                    self._check_time(waited)
                except (UserError, Fault) as raised:
                    error = raised
            own = FAIL if error else LEAVE if stop.reason else CONTINUE if len(batches) == count else WAIT
            vote = self._world.all_reduce_max(own)
            if vote == FAIL:
                self._world.raise_on_all(error)
            if vote == LEAVE:
                return None
            if vote == CONTINUE:
                return batches

    def close(self) -> None:
        """Take no more batches."""
        self._awaited.close()

    def _fill(self, batches: list[Batch], count: int) -> float:
        """Take batches as far as they come within POLL seconds. Returns the seconds that it waited in vain."""
        until = time.monotonic() + POLL
        while len(batches) < count:
            batch = self._awaited.get(max(until - time.monotonic(), 0))
            if batch is None:
                return POLL
            batches.append(batch)
        return 0.0

    def _check_time(self, seconds: float) -> None:
        """Raise a Fault where a batch takes too long."""
        if seconds > self._timeout * 60:
            raise Fault(
                f"process {self._world.rank} on {socket.gethostname()} waited {seconds / 60:.3g} minutes for a batch "
                f"of {self._source} (data.timeout_minutes: {self._timeout:g}); look at that file system and at what "
                "the loader's workers printed, then run the same command again"
            )


def end_workers() -> None:
    """Kill the loaders' workers. One that hangs would keep this process from ending."""
    for child in active_children():
        child.kill()
