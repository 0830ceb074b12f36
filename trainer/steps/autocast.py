"""The number format of passes through the networks: the setting `autocast`."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import torch
from torch import Tensor

from trainer.config.schema import GanConfig, VaeConfig

log = logging.getLogger(__name__)


def autocast(config: VaeConfig | GanConfig, like: Tensor, wanted: bool = True) -> torch.autocast:
    """Return the context of a pass. like: a tensor on the pass's device; wanted: False for a pass in full precision."""
    enabled = wanted and config.autocast == "bfloat16"
    return torch.autocast(like.device.type, torch.bfloat16, enabled=enabled)


WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")  # of oneDNN


def warn_if_emulated(config: VaeConfig | GanConfig, device: torch.device) -> None:
    """Warn once where the processor has no bf16 arithmetic: it computes in float32 then, and converts."""
    if config.autocast == "bfloat16" and not has_bf16(device):
        log.warning(
            "warning: autocast: bfloat16, but this %s has no bf16 arithmetic and emulates it, slower than float32; "
            "autocast=none is faster here",
            "GPU" if device.type == "cuda" else "processor",
        )


def has_bf16(device: torch.device, processor: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether a device multiplies bf16 numbers itself; True too where nothing says so.

    processor: Linux's description of the CPU, of which oneDNN uses what the variable ONEDNN_MAX_CPU_ISA allows.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BF16:
        return False
    return not processor.is_file() or re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", processor.read_text()) is not None
