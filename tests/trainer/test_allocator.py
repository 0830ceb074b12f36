"""Freed memory is used again: touching it costs no page faults."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import resource, sys, torch
from trainer.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.zeros(2**24)
before = faults()
for _ in range(5):
    torch.zeros(2**24)
print(faults() - before)
"""


def faults(how: str) -> int:
    """Page faults of filling 64 MiB five times."""
    return int(subprocess.run([sys.executable, "-c", PROBE, how], capture_output=True, text=True, check=True).stdout)


def test_large_tensors_reuse_their_memory() -> None:
    assert faults("default") > 10 * max(faults("kept"), 1)
