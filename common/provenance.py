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
    """Return the name of the GPU, or of the processor where the device is no GPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"CPU, {line.partition(':')[2].strip()}"
    return "CPU"
