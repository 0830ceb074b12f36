"""Programs of this project as processes that a signal stops and the same command takes up again."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import shlex
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from common.cli import EXIT_RESUME
from common.signals import handling

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # what a progress bar leaves before the text of a line
_LEFT_BEHIND = 10  # s for a process that a program left behind, and that holds its standard error


class Failed(Exception):
    """A program ended with an error, which it has printed. Its text is the reason, for a reader."""


def say(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)


def run_program(argv: Sequence[str]) -> str:
    """Run `python -m` with arguments to its end; return what it printed on standard output.

    A signal that stops this program reaches it first. Raises Failed with the program's last line `error: ...`, or its
    exit code where it printed none.
    """
    command = [sys.executable, "-m", *argv]
    say(f"$ python -m {shlex.join(argv)}")
    passed_on: list[int] = []
    errors = ErrorLines()
    # in a group of its own: a Ctrl-C in the terminal would reach it twice, and the second one ends it at once
    with (
        errors.passed_on() as end,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, text=True, process_group=0) as process,
    ):
        os.close(end)  # the process has it, and its end is the end of what is read

        def pass_on(number: int, _: object) -> None:
            passed_on.append(number)
            process.send_signal(number)

        with handling(pass_on):
            output, _ = process.communicate()
    if process.returncode == EXIT_RESUME or (passed_on and process.returncode):
        say("stopped; the same command goes on from here")
        raise SystemExit(EXIT_RESUME)
    if process.returncode:
        raise Failed(errors.last or f"exit code {process.returncode} of python -m {shlex.join(argv)}")
    return output


class ErrorLines:
    """The standard error of a program: passed on to that of this one as it comes.

    last: what followed `error:` in the last line that began with it, "" without one.
    """

    def __init__(self) -> None:
        self.last = ""
        self._line = ""

    @contextmanager
    def passed_on(self) -> Iterator[int]:
        """Yield the file descriptor that a program shall write to. The caller closes it once the program has it."""
        reader, end = _terminal() if sys.stderr.isatty() else os.pipe()
        thread = threading.Thread(target=self._pass_on, args=(reader,), daemon=True)
        thread.start()
        try:
            yield end
        finally:
            thread.join(_LEFT_BEHIND)

    def _pass_on(self, reader: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while piece := _read(reader):
            text = decoder.decode(piece)
            with contextlib.suppress(OSError, ValueError):  # this program's own is gone: the program goes on
                sys.stderr.write(text)
                sys.stderr.flush()
            self._look_at(text)
        self._look_at("\n")
        os.close(reader)

    def _look_at(self, text: str) -> None:
        *lines, self._line = re.split(r"[\r\n]", self._line + text)
        for line in lines:
            plain = _CONTROL.sub("", line)
            if plain.startswith("error:"):
                self.last = plain.removeprefix("error:").strip()


def _read(reader: int) -> bytes:
    """Return what there is to read, b"" at the end, which a terminal reports as an error."""
    try:
        return os.read(reader, 1 << 16)
    except OSError:
        return b""


def _terminal() -> tuple[int, int]:
    """Return (reader, end) of a terminal: in one programs draw progress bars, which they do in no pipe."""
    reader, end = os.openpty()
    settings = termios.tcgetattr(end)
    settings[1] &= ~termios.OPOST  # the ends of lines are left to the terminal that the text is passed on to
    termios.tcsetattr(end, termios.TCSANOW, settings)
    return reader, end
