"""Whole shards on a node's own disk, shared by the processes and jobs of the node.

A shard lies in PATH/<sha256 of the manifest>/<resolution>/NAME.tar, whole and with the manifest's sha256, or not at
all. One process of a node writes at a time (PATH/.lock). Each process that reads a level holds its folder's .lock,
shared: what no process reads makes room for what one needs. A lock ends with its process.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError

PART = ".part"  # behind the name of a shard that is not whole
_LOCK = ".lock"
_LEVELS = f"{'[0-9a-f]' * 64}/*"  # folders of levels; nothing else below PATH is the cache's, such as another set
_POLL = 0.5  # seconds between two looks at a lock that another process holds


class ShardCache(NamedTuple):
    """A cache of shards. path: its folder, which must be on a disk of the node; limit: bytes that it may take."""

    path: Path
    limit: int

    def prepare(self) -> None:
        """Make the folder. Raises UserError where it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with open(self.path / _LOCK, "ab"):
                pass
        except OSError as error:
            raise UserError(
                f"data.cache.path: {self.path} cannot be written on this node ({error.strerror}); name a folder on a "
                "disk of the node, or set data.cache=null"
            ) from None

    def folder(self, manifest_hash: str, resolution: int) -> Path:
        """Return the folder of a level's shards."""
        return self.path / manifest_hash / str(resolution)

    @contextmanager
    def writing(self, give_up: Callable[[], bool]) -> Iterator[bool]:
        """Wait until no other process of the node writes. Yields False where give_up() becomes true before."""
        with open(self.path / _LOCK, "ab") as lock:
            yield _locked(lock.fileno(), give_up)

    def used(self) -> int:
        """Return the bytes that shards take, of every set and level."""
        return sum(_size(path) for path in self.path.glob(f"{_LEVELS}/*.tar"))

    def make_room(self, need: int, level: Path) -> bool:
        """Remove shards of levels that no process reads, the oldest first, until `need` bytes fit in.

        level: the folder that the room is for, of which nothing is removed. Returns whether there is room. Only for the
        process that writes.
        """
        used = self.used()
        if used + need <= self.limit or need > self.limit:
            return need <= self.limit
        for folder in sorted(self.path.glob(_LEVELS), key=_written):
            if used + need <= self.limit:
                break
            if folder.is_dir() and folder != level:
                used -= _emptied(folder)
        return used + need <= self.limit

    def remove_parts(self) -> None:
        """Remove what killed processes left half. Only for the process that writes."""
        for path in self.path.glob(f"{_LEVELS}/*{PART}"):
            path.unlink(missing_ok=True)


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep the shards of a level's folder from making room for others."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _LOCK, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _locked(handle: int, give_up: Callable[[], bool]) -> bool:
    """Lock an open file once no other process has. Returns False where give_up() becomes true before."""
    while not give_up():
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_POLL)
    return False


def _emptied(folder: Path) -> int:
    """Remove the shards of a folder unless a process reads them. Returns the bytes that were freed."""
    with open(folder / _LOCK, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        freed = 0
        for path in folder.glob("*.tar"):
            freed += _size(path)
            path.unlink(missing_ok=True)
        return freed


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:  # a reader has found it damaged
        return 0


def _written(path: Path) -> float:
    """When a shard was last added to a folder, seconds."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
