"""A trained VAE as one safetensors file: how stage 2 gets its encoder, and keeps it beside its own checkpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

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
    step = checkpoint.newest(path)
    if step is None:
        raise UserError(
            f"vae: {path}: holds no checkpoint; name the run folder of a finished `python -m trainer vae`, "
            "or a vae.safetensors file"
        )
    manifest = checkpoint.read_manifest(step)
    config = manifest["config"]
    if "likelihood" not in config:
        raise UserError(f"vae: {path}: is no run of stage 1; name a run folder of `python -m trainer vae`")
    vae = VAE(manifest["facts"]["channels"], config["c_dim"], "default")
    names = {f"vae.{name}": torch.empty_like(t) for name, t in vae.state_dict().items()}
    checkpoint.load_tensors(step, names)
    vae.load_state_dict({name.removeprefix("vae."): t for name, t in names.items()})
    freeze(vae)
    return vae


def _from_file(path: Path) -> VAE:
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            vae = VAE(int(facts["channels"]), int(facts["c_dim"]), "default")
            vae.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"vae: {path}: not a VAE file ({str(error).splitlines()[0]}); export or train it again"
        ) from None
    freeze(vae)
    return vae
