"""A file that is hashed while it is written, and appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from common.atomic_writes import sync_folder


class HashedFile:
    """A new file under a temporary name: `publish` gives it its own, leaving the `with` block removes the temporary."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._digest = hashlib.sha256()
        self._closed = False

    def __enter__(self) -> HashedFile:
        self._stream: BinaryIO = open(self._temporary, "wb", buffering=2**20)
        return self

    def write(self, data: bytes) -> int:
        """Append data; returns its length. After the `with` block it is ignored.

        An abandoned tarfile writes its end when it is garbage-collected.
        """
        if self._closed:
            return len(data)
        self._digest.update(data)
        return self._naming_the_file(lambda: self._stream.write(data))

    def publish(self) -> None:
        """Bring the data to the disk and give the file its name."""
        self._naming_the_file(self._stream.flush)
        self._naming_the_file(lambda: os.fsync(self._stream.fileno()))
        os.replace(self._temporary, self.path)
        sync_folder(self.path.parent)

    def _naming_the_file(self, action: Callable[[], Any]) -> Any:
        """Run an action of writing, and add to its OSError which file it is about: the system does not say."""
        try:
            return action()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    @property
    def sha256(self) -> str:
        """The hash of what was written so far."""
        return self._digest.hexdigest()

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with contextlib.suppress(OSError):  # a full disk: the error that matters was raised already
            self._stream.close()
        self._temporary.unlink(missing_ok=True)
