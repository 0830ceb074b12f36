"""Fetch whole shards into a node's cache, in the background of a training, in the order of first need.

Of the processes of a node one fetches; where it ends, the next one goes on. Training does not wait for any of it: a
sample of a shard that is absent is read by itself.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

from common.errors import Fault, UserError
from common.paths import Location, Url

from .requests import read_range
from .shard_cache import PART, ShardCache, in_use

log = logging.getLogger(__name__)
_PIECE = 8 * 2**20  # bytes of one request
_IN_FLIGHT = 4  # requests


class Wanted(NamedTuple):
    """A shard to be kept: where it comes from, its file in the cache, and what the manifest says of it."""

    source: Location
    target: Path
    bytes: int
    sha256: str


class DamagedShard(UserError):
    """A shard that is not the one of the manifest."""


class Fetcher:
    """Fetches shards in a thread, while the process lives and until `stop`.

    error: what is wrong with a shard at its source, once that is known; training on it must not go on.
    """

    def __init__(self, cache: ShardCache, wanted: Sequence[Wanted]) -> None:
        self._cache, self._wanted = cache, wanted
        self._stopped = threading.Event()
        self.error: DamagedShard | None = None

    def start(self) -> None:
        """Begin. Not before the loader's workers are forked: a fork copies a lock that a thread holds."""
        threading.Thread(target=self._run, daemon=True, name="shard cache").start()

    def stop(self) -> None:
        """End soon, without waiting for it."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                for folder in {wanted.target.parent for wanted in self._wanted}:
                    stack.enter_context(in_use(folder))
                self._fetch_in_turn()
                self._stopped.wait()  # the folders stay in use
        except DamagedShard as error:
            self.error = error
        except (UserError, Fault, OSError) as error:
            reason = f"{error.strerror} ({error.filename or self._cache.path})" if isinstance(error, OSError) else error
            log.warning(
                "warning: data.cache: %s; shards that are not in %s yet are read sample by sample; make room or "
                "correct it, and start the run again to fetch them",
                reason,
                self._cache.path,
            )

    def _fetch_in_turn(self) -> None:
        """Fetch once no other process of the node does."""
        with self._cache.writing(self._stopped.is_set) as is_own_turn:
            if is_own_turn:
                self._cache.remove_parts()
                self._fetch_all()

    def _fetch_all(self) -> None:
        """Fetch what is absent until the cache is full."""
        for number, wanted in enumerate(self._wanted):
            if self._stopped.is_set():
                return
            if _is_there(wanted):
                continue
            if not self._cache.make_room(wanted.bytes, wanted.target.parent):
                log.info(
                    "data.cache: %s holds %d of %d shards, %.3g GB are full; samples of the others are read one by one",
                    self._cache.path,
                    number,
                    len(self._wanted),
                    self._cache.limit / 1e9,
                )
                return
            fetch(wanted, self._stopped)


def _is_there(wanted: Wanted) -> bool:
    try:
        return wanted.target.stat().st_size == wanted.bytes
    except FileNotFoundError:
        return False


def fetch(wanted: Wanted, stopped: threading.Event | None = None) -> None:
    """Copy a shard to its file, which appears when all of it is there and right; or return once `stopped` is set.

    Raises DamagedShard where what is at the source is not what the manifest says, also at a second look; UserError
    where it cannot be read; OSError where the disk is full.
    """
    digest = ""
    for _ in range(2):
        part = wanted.target.with_name(wanted.target.name + PART)
        try:
            with open(part, "wb") as stream:
                digest = _copy(wanted, stream, stopped)
                stream.flush()
                os.fsync(stream.fileno())
            if stopped is not None and stopped.is_set():
                return
            if digest == wanted.sha256:
                os.replace(part, wanted.target)
                return
        finally:
            part.unlink(missing_ok=True)
    raise DamagedShard(
        f"{wanted.source}: sha256 is {digest}, the manifest has {wanted.sha256}: the shard is damaged, or the set was "
        "replaced while this run reads it; copy the set there again, and run the same command again"
    )


def _copy(wanted: Wanted, stream: BinaryIO, stopped: threading.Event | None) -> str:
    """Write the bytes of a shard to a stream. Returns their sha256."""
    digest = hashlib.sha256()
    for piece in _pieces(wanted):
        if stopped is not None and stopped.is_set():
            break
        stream.write(piece)
        digest.update(piece)
    return digest.hexdigest()


def _pieces(wanted: Wanted) -> Iterator[bytes]:
    """Yield the bytes of a shard in order, a few requests ahead."""
    source = wanted.source
    offsets = range(0, wanted.bytes, _PIECE)
    if isinstance(source, Url):
        for first in range(0, len(offsets), _IN_FLIGHT):
            with ThreadPoolExecutor(_IN_FLIGHT) as pool:
                ahead = offsets[first : first + _IN_FLIGHT]
                lengths = [min(_PIECE, wanted.bytes - offset) for offset in ahead]
                yield from pool.map(lambda offset, length: read_range(source, offset, length), ahead, lengths)
        return
    with open(source, "rb") as file:
        while piece := file.read(_PIECE):
            yield piece
