"""Apply a function to many items on worker processes; results come in the order of the items."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from .errors import UserError
from .signals import stop_signals

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, preload: Sequence[str] = ()
) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed on `workers` processes (1: in this one).

    function and items must pickle. At most about two items per worker are under way at once, so items may hold data.
    preload: modules that later calls in this process need, by name. The fork server that the first call starts serves
    them all: it imports these modules and that of `function` once, and the workers inherit them; what it has not
    imported, each worker imports by itself. The workers end with this process, also when it is killed. Raises UserError
    where a worker dies.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    # A fork server is a clean process: a fork of this one could inherit a lock that a thread (progress bar, OpenMP)
    # holds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_module_of(function), *preload])  # without effect on a server that runs already
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
    """Return the module that defines a function, or the function that a partial calls."""
    return str(getattr(function, "func", function).__module__)


def _follow_parent() -> None:
    """Set up a worker process: it leaves Ctrl-C and the like to its parent, and ends when the parent does."""
    for number in stop_signals():
        if number != signal.SIGTERM:  # by which the parent ends it
            signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
