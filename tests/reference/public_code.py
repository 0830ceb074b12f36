"""Forward passes of the public ID-GAN code's networks, from a state_dict with its names, written out again.

Functions of tensors alone: no class of this project takes part.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def _lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def _conv(state: State, name: str, x: Tensor, **options: int) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)


def _up(state: State, name: str, x: Tensor, stride: int, padding: int) -> Tensor:
    return F.conv_transpose2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride, padding=padding)


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _block(state: State, name: str, x: Tensor) -> Tensor:
    """x, or its 1x1 convolution, plus a tenth of two 3x3 convolutions, each of lrelu of what comes in."""
    shortcut = _conv(state, f"{name}.conv_s", x) if f"{name}.conv_s.weight" in state else x
    hidden = _conv(state, f"{name}.conv_0", _lrelu(x), padding=1)
    return shortcut + 0.1 * _conv(state, f"{name}.conv_1", _lrelu(hidden), padding=1)


def _blocks(state: State) -> list[int]:
    """The numbers of the ResBlocks; what stands between them resamples and has no weights."""
    return sorted({int(name.split(".")[1]) for name in state if name.startswith("resnet.")})


def resnet_generator(state: State, z: Tensor) -> Tensor:
    """Images in (-1, 1) of z = [s, c]: FC to 4x4, ResBlocks with a nearest enlargement after each but the last."""
    x = _linear(state, "fc", z)
    x = x.reshape(len(z), -1, 4, 4)
    numbers = _blocks(state)
    for number in numbers:
        x = _block(state, f"resnet.{number}", x)
        if number != numbers[-1]:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return torch.tanh(_conv(state, "conv_img", _lrelu(x), padding=1))


def resnet_discriminator(state: State, x: Tensor) -> Tensor:
    """Logits; with a bottleneck those of its mean. Between ResBlocks 3x3 means of stride 2, zeros around the map."""
    x = _conv(state, "conv_img", x, padding=1)
    for number in _blocks(state):
        if number > 0:
            window = torch.full((x.shape[1], 1, 3, 3), 1 / 9, dtype=x.dtype)
            x = F.conv2d(x, window, stride=2, padding=1, groups=x.shape[1])
        x = _block(state, f"resnet.{number}", x)
    if "mean_fn.weight" in state:
        x = _conv(state, "mean_fn", x)
    return _linear(state, "fc", _lrelu(x.flatten(1))).squeeze(1)


def conv_generator(state: State, z: Tensor, prefix: str = "") -> Tensor:
    """Logits of the decoder of Tables A.2 and A.3: FC 256, a transposed 4x4 convolution of one pixel, four of stride 2.

    tanh of them is the generator's image, their sigmoid the VAE's.
    """
    x = torch.relu(_linear(state, f"{prefix}layer.0", z))[:, :, None, None]
    for number in (3, 5, 7, 9, 11):
        x = _up(state, f"{prefix}layer.{number}", x, 1 if number == 3 else 2, 0 if number == 3 else 1)
        x = x if number == 11 else torch.relu(x)
    return x


def conv_discriminator(state: State, x: Tensor, prefix: str = "") -> Tensor:
    """Outputs of the encoder of Tables A.2 and A.3: four 4x4 convolutions of stride 2, one of the 4x4 map, FC."""
    for number in (0, 2, 4, 6):
        x = torch.relu(_conv(state, f"{prefix}layer.{number}", x, stride=2, padding=1))
    x = torch.relu(_conv(state, f"{prefix}layer.8", x)).flatten(1)
    return _linear(state, f"{prefix}layer.11", x)
