"""Freed memory is used again: once a program has what it needs, large tensors cost no page faults."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import resource, sys, torch
from trainer.memory.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work(): torch.zeros(2**24) + 1
for _ in range(20):
    work()
before = faults()
for _ in range(10):
    work()
print(faults() - before)
"""


def faults(how: str) -> int:
    """Page faults of making two tensors of 64 MiB ten times, after twenty times."""
    return int(subprocess.run([sys.executable, "-c", PROBE, how], capture_output=True, text=True, check=True).stdout)


def test_large_tensors_reuse_their_memory() -> None:
    """Takes more than ten seconds: two interpreters import torch."""
    assert faults("kept") < faults("default") / 100
