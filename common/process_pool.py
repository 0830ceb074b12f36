"""Ordered work on processes: one function, many small items, results in the items' order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from .errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """function(item) for each item, in order, on `workers` processes (1: in this one).

    function and items must pickle. Few items are in flight at once, so items may hold data. The workers
    die with this process, also when it is killed.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    # A fork server is a clean process: forking this one could copy a lock that a thread (progress
    # bar, OpenMP) holds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_module_of(function)])  # imported once, not by every worker
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError("a worker process died (out of memory?); run again with fewer --workers") from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _module_of(function: Callable[..., object]) -> str:
    """Where a function, or what a partial calls, is defined."""
    return str(getattr(function, "func", function).__module__)


def _follow_parent() -> None:
    """In a worker: Ctrl-C is the parent's to handle, and a dead parent ends the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
