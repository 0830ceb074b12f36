"""The help of the trainer's commands answers at once: torch is imported by what trains."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "PIL", "accelerate", "deepspeed", "torchvision", "safetensors"}
CODE = """
import json, resource, sys
from common.cli import run
from trainer.__main__ import app
try:
    run(app, sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop
used = resource.getrusage(resource.RUSAGE_SELF)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))  # ru_maxrss holds the parent's, too
print(json.dumps([sorted(sys.modules), used.ru_utime + used.ru_stime, int(status["VmHWM"].split()[0]) / 1024]))
"""


@pytest.mark.parametrize("args", [("--help",), ("gan", "--help"), ("plan", "--help"), ("settle", "--help")])
def test_help_takes_less_than_a_second_and_150_mb(args: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, *args], capture_output=True, text=True, check=True)
    modules, seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    assert HEAVY & set(modules) == set()
    assert seconds < 1.0  # of CPU: a busy machine takes longer
    assert megabytes < 150
