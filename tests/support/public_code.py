"""Checkpoints in the layout of the public ID-GAN code, with the names and shapes of its networks and random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]


def _filled(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    """Weights whose layers keep the size of what goes through them, and biases that are not 0."""
    noise = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        fan_in = max(torch.Size(shape[1:]).numel(), 1)
        scale = (2 / fan_in) ** 0.5 if name.endswith("weight") else 0.3
        state[name] = torch.randn(shape, generator=noise) * scale
    return state


def _layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    """Weight and bias; a transposed convolution's outputs stand second."""
    return {f"{name}.weight": shape, f"{name}.bias": (shape[0],)}


def _up(name: str, fin: int, fout: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (fin, fout, 4, 4), f"{name}.bias": (fout,)}


def _block(name: str, fin: int, fout: int) -> dict[str, tuple[int, ...]]:
    hidden = min(fin, fout)
    shapes = _layer(f"{name}.conv_0", hidden, fin, 3, 3) | _layer(f"{name}.conv_1", fout, hidden, 3, 3)
    return shapes | ({f"{name}.conv_s.weight": (fout, fin, 1, 1)} if fin != fout else {})


def _widths(resolution: int, nf: int, nf_max: int) -> list[int]:
    """Channels at 4, 8, ..., resolution px."""
    levels = (resolution // 4).bit_length() - 1
    return [min(nf * 2 ** (levels - i), nf_max) for i in range(levels + 1)]


def resnet_generator(resolution: int, nf: int, nf_max: int, z_dim: int, seed: int) -> State:
    widths = _widths(resolution, nf, nf_max)
    shapes = _layer("fc", widths[0] * 16, z_dim)
    for i, fin in enumerate(widths):
        shapes |= _block(f"resnet.{2 * i}", fin, widths[min(i + 1, len(widths) - 1)])
    return _filled(shapes | _layer("conv_img", 3, nf, 3, 3), seed)


def resnet_discriminator(resolution: int, nf: int, nf_max: int, seed: int, bottleneck: bool = False) -> State:
    widths = _widths(resolution, nf, nf_max)[::-1]
    shapes = _layer("conv_img", nf, 3, 3, 3)
    for i, fout in enumerate(widths):
        shapes |= _block(f"resnet.{2 * i}", widths[max(i - 1, 0)], fout)
    last = widths[-1]
    if bottleneck:
        shapes |= _layer("mean_fn", last, last, 1, 1) | _layer("logstd_fn", last, last, 1, 1)
    return _filled(shapes | _layer("fc", 1, last * 16), seed)


def _down_layers(channels: int, outputs: int, prefix: str = "") -> dict[str, tuple[int, ...]]:
    shapes = {}
    for i, (fin, fout) in enumerate(((channels, 32), (32, 32), (32, 64), (64, 64))):
        shapes |= _layer(f"{prefix}layer.{2 * i}", fout, fin, 4, 4)
    return shapes | _layer(f"{prefix}layer.8", 256, 64, 4, 4) | _layer(f"{prefix}layer.11", outputs, 256)


def _up_layers(inputs: int, channels: int, prefix: str = "") -> dict[str, tuple[int, ...]]:
    shapes = _layer(f"{prefix}layer.0", 256, inputs)
    for i, (fin, fout) in enumerate(((256, 64), (64, 64), (64, 32), (32, 32), (32, channels))):
        shapes |= _up(f"{prefix}layer.{3 + 2 * i}", fin, fout)
    return shapes


def conv_generator(z_dim: int, channels: int, seed: int) -> State:
    return _filled(_up_layers(z_dim, channels), seed)


def conv_discriminator(channels: int, seed: int) -> State:
    return _filled(_down_layers(channels, 1), seed)


def vae(c_dim: int, channels: int, seed: int) -> State:
    return _filled(_down_layers(channels, 2 * c_dim, "encoder.") | _up_layers(c_dim, channels, "decoder."), seed)


def stage_1(path: Path, state: State, iterations: int, **more: Any) -> Path:
    """Write what the solver of stage 1 writes as chkpts/last, in the file format of torch before 1.6."""
    path.parent.mkdir(parents=True, exist_ok=True)
    optimizer = {"state": {0: {"step": iterations, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
    model = {
        "net": state,
        "c_dim": state["encoder.layer.11.bias"].numel() // 2,
        "nc": len(state["decoder.layer.11.bias"]),
    }
    content = {"iter": iterations, "model_states": model, "optim_states": {"optim": optimizer}} | more
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def stage_2(path: Path, networks: dict[str, State], last_iteration: int, **more: Any) -> Path:
    """Write what the trainer of stage 2 writes as chkpts/model.pt. networks: by their names there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefixed = {which: {f"module.{name}": t for name, t in state.items()} for which, state in networks.items()}
    optimizer = {"state": {0: {"step": 3, "square_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    torch.save({"it": last_iteration, **prefixed, "g_optimizer": optimizer, "d_optimizer": optimizer} | more, path)
    return path


def resnet_model(path: Path, resolution: int, nf: int, nf_max: int, z_dim: int, bottleneck: bool = False) -> Path:
    """A model.pt with networks of Tables A.4 to A.7."""
    networks = {
        "generator": resnet_generator(resolution, nf, nf_max, z_dim, 1),
        "discriminator": resnet_discriminator(resolution, nf, nf_max, 2, bottleneck),
        "generator_test": resnet_generator(resolution, nf, nf_max, z_dim, 3),
    }
    return stage_2(path, networks, 299_999)
