"""What a command imports and takes before it answers, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

_CODE = """
import importlib, json, resource, sys
from common.cli import run
app = importlib.import_module(f"{sys.argv[1]}.__main__").app
try:
    run(app, sys.argv[2:])
except SystemExit as stop:
    assert not stop.code, stop
used = resource.getrusage(resource.RUSAGE_SELF)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))  # ru_maxrss holds the parent's, too
print(json.dumps([sorted(sys.modules), used.ru_utime + used.ru_stime, int(status["VmHWM"].split()[0]) / 1024]))
"""


class StartUp(NamedTuple):
    """modules: all that were imported; seconds: of processor time; megabytes: the highest resident memory."""

    modules: set[str]
    seconds: float
    megabytes: float


def start_up(package: str, *args: str) -> StartUp:
    """Run `python -m PACKAGE ARGS`, which must end with exit code 0."""
    command = [sys.executable, "-c", _CODE, package, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules, seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return StartUp(set(modules), seconds, megabytes)
