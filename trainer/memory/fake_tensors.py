"""Tensors with a shape and a storage but no memory: a step runs on them to be measured, not to be computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Make every tensor that is created within take no memory. It has a shape and a storage; its values mean nothing.

    Networks that are created within may be moved and copied.
    """
    with (
        warnings.catch_warnings(),
        patch.object(nn.Module, "_apply", _apply),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # copy.deepcopy asks for it
        yield


def _apply(network: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Stand in for nn.Module._apply, which nn.Module.to calls: torch 2.14's refuses fake tensors ("Couldn't swap")."""
    for module in network.modules() if recurse else [network]:
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(function(parameter.detach()), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else function(buffer)
    return network
