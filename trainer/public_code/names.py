"""Which tensor of the public code is which of ours.

Its ResNets number blocks and what lies between them in one sequence: `resnet.0`, `resnet.2`, ..., G's from 4 px up, D's
from full resolution down. Its networks of Tables A.2 and A.3 have convolutions where ours are linear: a 4x4 convolution
of a 4x4 map, and a transposed one of a single pixel, whose bias has one number a channel.
"""

from __future__ import annotations

import math
import re
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from models import VAE, ConvDiscriminator, ConvGenerator, Discriminator, Generator

# same: as it is; conv: [out, c, 4, 4] of a linear layer [out, 16 c]; up_conv: [in, c, 4, 4] of one [16 c, in]
Form = Literal["same", "conv", "up_conv"]
PIXELS = 16  # of a 4x4 map

_BLOCK = re.compile(r"blocks\.(?P<side>\d+)\.(?P<layer>conv_0|conv_1|shortcut)\.(?P<parameter>weight|bias)")
_RESNET = {"fc": "fc", "judge.linear": "fc", "bottleneck.mean": "mean_fn", "bottleneck.log_std": "logstd_fn"}
_DOWN: dict[str, tuple[str, Form]] = {f"layers.{k}": (f"layer.{k}", "same") for k in (0, 2, 4, 6, 11)}
_DOWN |= {"layers.9": ("layer.8", "conv"), "judge.linear": ("layer.11", "same")}
_UP: dict[str, tuple[str, Form]] = {str(k): (f"layer.{k}", "same") for k in (0, 5, 7, 9, 11)}
_UP |= {"2": ("layer.3", "up_conv")}


class Source(NamedTuple):
    """The tensor of the public code that one of ours comes from: its name there, its form, its shape there."""

    name: str
    form: Form
    shape: tuple[int, ...]


def sources(network: nn.Module) -> dict[str, Source]:
    """Return where each tensor of a network of ours comes from, by its name here.

    network: a VAE, or a generator or discriminator of either kind, whose image layers are of one resolution.
    """
    found = {}
    for name, tensor in network.state_dict().items():
        theirs, form = (
            _resnet(network, name) if isinstance(network, Generator | Discriminator) else _conv(network, name)
        )
        found[name] = Source(theirs, form, _shape(tuple(tensor.shape), form))
    return found


def _resnet(network: Generator | Discriminator, name: str) -> tuple[str, Form]:
    """Return name and form of a tensor of Tables A.4 to A.7."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        module, _, parameter = name.rpartition(".")
        return f"{_RESNET.get(module, 'conv_img')}.{parameter}", "same"
    side, layer = int(match["side"]), match["layer"].replace("shortcut", "conv_s")
    first = network.resolution if isinstance(network, Discriminator) else network.block_resolutions[0]
    at = 2 * round(abs(math.log2(side / first)))
    return f"resnet.{at}.{layer}.{match['parameter']}", "same"


def _conv(network: nn.Module, name: str) -> tuple[str, Form]:
    """Return name and form of a tensor of Tables A.2 and A.3."""
    module, _, parameter = name.rpartition(".")
    if isinstance(network, ConvDiscriminator):
        prefix, (theirs, form) = "", _DOWN[module]
    elif isinstance(network, ConvGenerator):
        prefix, (theirs, form) = "", _UP[module.removeprefix("layers.")]
    else:
        assert isinstance(network, VAE)
        prefix, _, inner = module.partition(".")
        theirs, form = (_DOWN if prefix == "encoder" else _UP)[inner]
        prefix += "."
    return f"{prefix}{theirs}.{parameter}", form


def _shape(shape: tuple[int, ...], form: Form) -> tuple[int, ...]:
    """Return the shape that a tensor of ours has in the public code."""
    if form == "same" or (form == "conv" and len(shape) == 1):
        return shape
    if form == "conv":
        return shape[0], shape[1] // PIXELS, 4, 4
    return (shape[0] // PIXELS,) if len(shape) == 1 else (shape[1], shape[0] // PIXELS, 4, 4)


def converted(tensor: Tensor, form: Form) -> Tensor:
    """Return a tensor of the public code, of the shape that its source names, as ours: float32."""
    tensor = tensor.float()
    if form == "conv":
        tensor = tensor.flatten(1) if tensor.dim() > 1 else tensor
    elif form == "up_conv":
        tensor = tensor.permute(1, 2, 3, 0).flatten(0, 2) if tensor.dim() > 1 else tensor.repeat_interleave(PIXELS)
    return tensor.contiguous()


def problems(network: nn.Module, state: dict[str, Tensor], where: str) -> list[str]:
    """List what of a state_dict of the public code does not fit a network of ours, by its names there.

    where: of the file, what the state_dict is, to begin each line with.
    """
    wanted = {source.name: source.shape for source in sources(network).values()}
    found = [
        f"{where}: {name}: is not there; the config's network has it, {_size(s)}"
        for name, s in wanted.items()
        if name not in state
    ]
    for name, tensor in state.items():
        if name not in wanted:
            found.append(f"{where}: {name}: the config's network has none; it is {_size(tensor.shape)}")
        elif tuple(tensor.shape) != wanted[name]:
            found.append(f"{where}: {name}: is {_size(tensor.shape)}, in the config's network {_size(wanted[name])}")
        elif not torch.isfinite(tensor).all():
            found.append(f"{where}: {name}: holds values that are not finite")
    return found


def fill(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a state_dict of the public code, which has no `problems`, into a network of ours."""
    network.load_state_dict({ours: converted(state[s.name], s.form) for ours, s in sources(network).items()})


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"
