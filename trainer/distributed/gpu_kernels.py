"""Which kernels a GPU computes with: the setting `speed`. A CPU computes the same bits under both."""

from __future__ import annotations

import os
from typing import Literal

import torch

Speed = Literal["exact", "fast"]


def choose_kernels(speed: Speed) -> None:
    """Set torch for a GPU. Call it before the first CUDA operation."""
    {"exact": make_repeatable, "fast": make_fast}[speed]()


def make_repeatable() -> None:
    """Make a GPU compute in full fp32 and the same bits every time, as the CPU does, so that a resume is exact.

    Where an operation has no such implementation (an encoder of your own may use one) torch warns and goes on.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False  # its choice depends on the moment
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may sum in any order
    torch.use_deterministic_algorithms(True, warn_only=True)  # cuDNN's too, and the bilinear look of q at small images
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # none is read


def make_fast() -> None:
    """Let a GPU round the factors of fp32 products to TF32, time cuDNN's algorithms and sum in any order.

    TF32 keeps 10 bits of a factor's fraction and sums in fp32. Random numbers are not affected: they are integers
    before they are scaled.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True  # a phase has one shape of image, so that it is timed once
    torch.use_deterministic_algorithms(False)
