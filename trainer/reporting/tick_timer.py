"""What a tick reports about time and memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class TickTimer:
    """Seconds since the last tick, and the part of them that was spent waiting for data."""

    def __init__(self, images_seen: int) -> None:
        self.restart(images_seen)

    def restart(self, images_seen: int) -> None:
        """Begin a tick at a clock."""
        self._start, self._start_images, self._waited = time.monotonic(), images_seen, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time spent inside as waiting for data."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - start

    def metrics(self, images_seen: int, total: int) -> dict[str, float]:
        """Return seconds_per_kimg, eta_seconds to the end at `total` images, and data_wait in [0, 1]."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        per_image = seconds / max(images_seen - self._start_images, 1)
        return {
            "seconds_per_kimg": per_image * 1000,
            "eta_seconds": per_image * (total - images_seen),
            "data_wait": min(self._waited / seconds, 1.0),
        }


def peak_memory_gb(device: torch.device) -> float:
    """Return the peak memory so far in 1e9 bytes: of the GPU's allocator, or of this process where it runs on a CPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
