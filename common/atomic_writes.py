"""Write files so that they appear under their names complete, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def publish(path: Path, data: bytes) -> None:
    """Write a file so that it appears under its name complete or not at all, also after a power cut.

    Raises OSError with `path` as its file name.
    """
    with publishing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Give a path to write a file at, which then appears under its name as with `publish`.

    After an error nothing is left. Raises an OSError with `path` as its file name.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, so that they survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
