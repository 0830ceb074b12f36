"""The packages and the machine that a number was computed with."""

from __future__ import annotations

import contextlib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a number, by name."""
    return {name: metadata.version(name) for name in ("idgan", "torch", "numpy")}


def hardware(device: torch.device) -> str:
    """Return the name of the GPU; of a processor its name, the instructions that torch takes, and threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    used = f"{torch.backends.cpu.get_cpu_capability()}, {count} thread{'s' if count > 1 else ''}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"CPU, {line.partition(':')[2].strip()} ({used})"
    return f"CPU ({used})"
