"""The frozen encoder q of stage 2: of a stage 1 run, of a vae.safetensors file, or your own, exported to a file.

A run keeps its own copy beside its checkpoints, so that it goes on and can be evaluated without its stage 1.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from data_shards.errors import UserError
from data_shards.publish import publish
from models import VAE, freeze

from . import checkpoint
from .config import VaeConfig, kind_of

VAE_FILE, OWN_FILE = "vae.safetensors", "encoder.pt2"


@dataclass(frozen=True)
class Frozen:
    """q as a module: [B, channels, 64, 64] in [0, 1] -> (mean, logvar), each [B, c_dim]; takes no gradient.

    vae: the whole VAE, which can also decode a code, or None for an encoder of your own. sha256: the identity of the
    weights. name, content: the file that a run keeps of it.
    """

    encoder: nn.Module
    vae: VAE | None
    channels: int
    c_dim: int
    sha256: str
    name: str
    content: bytes

    def keep(self, run: Path) -> None:
        """Write RUN/vae.safetensors or RUN/encoder.pt2."""
        publish(run / self.name, self.content)


def load(path: Path) -> Frozen:
    """The q of a stage 1 run folder (its newest checkpoint), of a vae.safetensors or of an exported encoder.pt2."""
    if path.suffix == ".safetensors":
        return _of_vae(_from_file(path))
    if path.suffix == ".pt2":
        return _own(path)
    return _of_vae(_from_run(path))


def kept(run: Path) -> Path | None:
    """The file of q in a stage 2 run folder, or None."""
    return next((run / name for name in (VAE_FILE, OWN_FILE) if (run / name).is_file()), None)


def export(encoder: nn.Module, path: Path | str, channels: int) -> None:
    """Write an encoder of your own as a file for vae=PATH: a torch.export program, no pickled code.

    encoder: maps images [B, channels, 64, 64] in [0, 1] to (mean, logvar), each [B, c_dim], of a Gaussian q(c|x); it
    is frozen and put in eval mode. The file works for any batch size. Raises a UserError where the outputs are others.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise UserError(f"{path}: the name of an exported encoder ends in .pt2")
    example = torch.zeros(2, channels, 64, 64)
    freeze(encoder)
    _c_dim(encoder, channels, path)
    program = torch.export.export(encoder, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    publish(path, buffer.getvalue())


def _of_vae(vae: VAE) -> Frozen:
    tensors = {name: t.detach().cpu().contiguous() for name, t in vae.state_dict().items()}
    content = save(tensors, {"channels": str(vae.channels), "c_dim": str(vae.c_dim)})
    return Frozen(vae.encoder, vae, vae.channels, vae.c_dim, _sha256(tensors), VAE_FILE, content)


def _sha256(tensors: dict[str, Tensor]) -> str:
    """The identity of weights: over names, shapes and values."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def _from_run(path: Path) -> VAE:
    built: list[VAE] = []

    def like(manifest: dict[str, Any]) -> dict[str, Tensor]:
        config = manifest["config"]
        if kind_of(config) is not VaeConfig:
            raise UserError(f"vae: {path}: is no run of stage 1; name a run folder of `python -m trainer vae`")
        built.append(VAE(manifest["facts"]["channels"], config["c_dim"], "default"))
        return {f"vae.{name}": t for name, t in built[-1].state_dict().items()}

    _, tensors = checkpoint.read_newest(path, like)
    built[-1].load_state_dict({name.removeprefix("vae."): t for name, t in tensors.items()})
    freeze(built[-1])
    return built[-1]


def _from_file(path: Path) -> VAE:
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            vae = VAE(int(facts["channels"]), int(facts["c_dim"]), "default")
            vae.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"vae: {path}: not a VAE file ({str(error).splitlines()[0]}); copy it again or name a run folder"
        ) from None
    freeze(vae)
    return vae


class Exported(nn.Module):
    """An exported program as a module. It has one mode, so train() and eval() leave it alone."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.program(x)
        return mean, logvar

    def train(self, mode: bool = True) -> Exported:
        return self


def _own(path: Path) -> Frozen:
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(io.BytesIO(content))
        encoder, channels = Exported(program.module()), _channels(program)
    except Exception as error:  # whatever a broken archive makes torch raise
        raise UserError(
            f"vae: {path}: not an exported encoder ({(str(error).splitlines() or [type(error).__name__])[0]}); write "
            "it with trainer.frozen.export(encoder, path, channels)"
        ) from None
    c_dim = _c_dim(encoder, channels, path)
    return Frozen(encoder, None, channels, c_dim, hashlib.sha256(content).hexdigest(), OWN_FILE, content)


def _channels(program: torch.export.ExportedProgram) -> int:
    """Of the images that the program was exported for."""
    (example,), _ = program.example_inputs
    return int(example.shape[1])


@torch.no_grad()
def _c_dim(encoder: nn.Module, channels: int, path: Path) -> int:
    """Look at two images: the size of the code. Raises a UserError where q gives anything but (mean, logvar)."""
    found = encoder(torch.zeros(2, channels, 64, 64))
    pair = isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(t, Tensor) for t in found)
    if not pair or found[0].dim() != 2 or found[0].shape != found[1].shape or len(found[0]) != 2:
        shapes = [tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__ for t in found] if pair else found
        raise UserError(
            f"vae: {path}: for two images the encoder gives {str(shapes)[:100]}; it must give (mean, logvar), "
            "each [2, c_dim]"
        )
    return int(found[0].shape[1])
