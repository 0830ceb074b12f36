"""Output whose reader is gone goes nowhere; any other error of a stream is raised."""

from __future__ import annotations

import errno
import io
import sys

import pytest

from common.terminal import GONE, Outliving, outlived


class Failing(io.StringIO):
    """A stream whose every write fails."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, "no")

    def flush(self) -> None:
        raise OSError(self.number, "no")


@pytest.mark.parametrize("number", GONE)
def test_a_stream_outlives_its_reader(number: int) -> None:
    stream = Outliving(Failing(number), GONE)
    assert stream.write("abc") == 3
    stream.flush()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
def test_other_errors_are_raised(number: int) -> None:
    stream = Outliving(Failing(number), [errno.EIO])
    with pytest.raises(OSError, match="no"):
        stream.write("abc")


def test_text_arrives_and_the_streams_are_put_back() -> None:
    before, text = sys.stderr, io.StringIO()
    sys.stderr = text
    try:
        with outlived():
            print("abc", file=sys.stderr, flush=True)
        assert sys.stderr is text
        assert text.getvalue() == "abc\n"
    finally:
        sys.stderr = before
