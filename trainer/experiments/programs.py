"""Programs of this project as processes that a signal stops and the same command takes up again."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence

from common.cli import EXIT_RESUME
from common.signals import handling


class Failed(Exception):
    """A program ended with an error, which it has printed."""


def say(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)


def run_program(argv: Sequence[str]) -> str:
    """Run `python -m` with arguments to its end; return what it printed on standard output.

    A signal that stops this program reaches it first.
    """
    command = [sys.executable, "-m", *argv]
    say(f"$ python -m {shlex.join(argv)}")
    passed_on: list[int] = []
    # in a group of its own: a Ctrl-C in the terminal would reach it twice, and the second one ends it at once
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:

        def pass_on(number: int, _: object) -> None:
            passed_on.append(number)
            process.send_signal(number)

        with handling(pass_on):
            output, _ = process.communicate()
    if process.returncode == EXIT_RESUME or (passed_on and process.returncode):
        say("stopped; the same command goes on from here")
        raise SystemExit(EXIT_RESUME)
    if process.returncode:
        raise Failed(f"exit code {process.returncode} of python -m {shlex.join(argv)}")
    return output
