"""Writing to a terminal: text as it is, and work that goes on where it closes, as when an SSH session ends."""

from __future__ import annotations

import errno
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

GONE = (errno.EIO, errno.EPIPE, errno.ENXIO)  # of a terminal, or of a program that read the output


class Outliving:
    """A stream whose text goes nowhere once its reader is gone. forgiven: the errors that say so."""

    def __init__(self, stream: TextIO, forgiven: Collection[int]) -> None:
        self._stream, self._forgiven = stream, forgiven

    def write(self, text: str) -> int:
        """Write text; return how much."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._forgive(error)
            return len(text)

    def flush(self) -> None:
        """Flush what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._forgive(error)

    def _forgive(self, error: OSError) -> None:
        if error.errno not in self._forgiven:
            raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def outlived() -> Iterator[None]:
    """Let the program go on where its terminal closes. A closed pipe still ends what writes its answer into it."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Outliving(sys.stdout, GONE[:1]), Outliving(sys.stderr, GONE)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def console(width: int | None = None, stderr: bool = False) -> Console:
    """Return what prints tables and bars. Names in brackets, as in gan[leaks] or a folder's, are no markup of rich's.

    width: columns, None for the terminal's.
    """
    from rich.console import Console

    return Console(width=width, stderr=stderr, markup=False, emoji=False)
