"""What a number was computed with: packages and machine."""

from __future__ import annotations

import contextlib
from importlib import metadata
from pathlib import Path

import torch


def versions() -> dict[str, str]:
    """Of the packages that decide a number."""
    return {name: metadata.version(name) for name in ("idgan", "torch", "numpy")}


def hardware(device: torch.device) -> str:
    """The name of what the networks run on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"CPU, {line.partition(':')[2].strip()}"
    return "CPU"
