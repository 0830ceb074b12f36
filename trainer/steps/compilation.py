"""torch.compile of the forward passes: the setting `compile`."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence

import torch
from torch import nn

from common.errors import UserError

CACHE = "TORCHINDUCTOR_CACHE_DIR"
GRAPHS = 128  # the most that one network may have: nine sizes, fades, and up to six kinds of pass; torch's default is 8


def check_compiler(device: torch.device) -> None:
    """Raise a UserError where the code for the CPU could not be built."""
    if device.type == "cpu" and shutil.which("g++") is None:
        raise UserError("compile: true needs a C++ compiler on the CPU; install g++, or set compile=false")


def compile_passes(networks: Sequence[nn.Module], backend: str = "inductor") -> None:
    """Compile every later call of the networks as one graph, tangents included; parameters and their names stay.

    Each kind of pass has its own graph: with and without gradients for the weights or the image, tangent and fade, at
    every size.
    """
    torch._dynamo.config.recompile_limit = GRAPHS
    _use_own_cache()
    for network in networks:  # forward alone, so that the hooks of a strategy around it need not be in the graph
        network.forward = torch.compile(network.forward, fullgraph=True, dynamic=False, backend=backend)


def _use_own_cache() -> None:
    """Compile into a temporary folder, unless the user names one.

    A compiler that is killed leaves a half-written file in the folder that all processes share, and the next run fails
    on it.
    """
    if CACHE not in os.environ:
        os.environ[CACHE] = tempfile.mkdtemp(prefix="idgan-compiled-")
        atexit.register(shutil.rmtree, os.environ[CACHE], ignore_errors=True)
