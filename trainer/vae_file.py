"""A trained VAE as one safetensors file: how stage 2 gets its encoder, and keeps it beside its own checkpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from data_shards.errors import UserError
from data_shards.publish import publish
from models import VAE, freeze

from . import checkpoint

FILE = "vae.safetensors"


def sha256(vae: VAE) -> str:
    """The identity of the weights: over names, shapes and values."""
    found = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def keep(vae: VAE, run: Path) -> None:
    """Write RUN/vae.safetensors, so that the run can be evaluated without its stage 1."""
    facts = {"channels": str(vae.channels), "c_dim": str(vae.c_dim)}
    publish(run / FILE, save({name: t.detach().cpu().contiguous() for name, t in vae.state_dict().items()}, facts))


def load(path: Path) -> VAE:
    """The frozen VAE of a stage 1 run folder (its newest checkpoint) or of a vae.safetensors file."""
    if path.suffix == ".safetensors":
        return _from_file(path)
    built: list[VAE] = []

    def like(manifest: dict[str, Any]) -> dict[str, Tensor]:
        config = manifest["config"]
        if "likelihood" not in config:
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
