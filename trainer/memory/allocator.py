"""How the C library allocates the memory of large tensors on a CPU."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Reuse freed memory for the next tensor, instead of giving it back to the system.

    glibc maps every block above 32 MB anew, and the system clears its pages when they are first touched. An image of
    1024 px with 16 channels is 64 MB; docs/performance.md has the cost. Does nothing with another C library. GPUs have
    torch's own caching allocator.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, NEVER)
