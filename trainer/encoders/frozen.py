"""The frozen encoder q of stage 2: from a run of stage 1, from a vae.safetensors file, or your own from a file.

A run keeps its own copy beside its checkpoints, so that it resumes and can be evaluated without its stage 1.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from common import shipped
from common.atomic_writes import publish
from common.errors import UserError, first_line
from models import VAE, freeze
from trainer.checkpoints import finite, published
from trainer.checkpoints.load import read_newest
from trainer.config import exported_files
from trainer.config.file_names import ENCODER, METADATA, OWN_ENCODER, OWN_FILE, VAE_FILE
from trainer.config.schema import VaeConfig, kind_of

from . import own_encoder


@dataclass(frozen=True)
class FrozenEncoder:
    """q as a module: [B, channels, 64, 64] in [0, 1] -> (mean, logvar), each [B, c_dim]; takes no gradient.

    vae: the whole VAE, which can also decode a code, or None for an encoder of your own. sha256: the identity of the
    weights. name, content: of the file that a run keeps as its copy.
    """

    encoder: nn.Module
    vae: VAE | None
    channels: int
    c_dim: int
    sha256: str
    name: str
    content: bytes

    def to(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return a copy of the encoder on a device."""
        moved = self.encoder.moved_to(device) if isinstance(self.encoder, own_encoder.Exported) else self.encoder
        return copy.deepcopy(moved).to(device, dtype)

    def save(self, run: Path) -> None:
        """Write RUN/vae.safetensors or RUN/encoder.pt2, and remove the other, which an earlier start may have left."""
        publish(run / self.name, self.content)
        for other in {VAE_FILE, OWN_FILE} - {self.name}:
            (run / other).unlink(missing_ok=True)


def load(path: Path) -> FrozenEncoder:
    """Load q from a stage 1 run folder (its newest checkpoint), an export, a vae.safetensors or an encoder.pt2.

    Raises a UserError that names the path where there is none.
    """
    path = shipped.found(path)
    _refuse_elsewhere(path)
    if (path / METADATA).is_file():
        path = _exported_file(path)
    if path.suffix == ".safetensors":
        return of_vae(*_from_file(path))
    if path.suffix == ".pt2":
        encoder, channels, c_dim, content = own_encoder.load(path)
        return FrozenEncoder(encoder, None, channels, c_dim, hashlib.sha256(content).hexdigest(), OWN_FILE, content)
    return of_vae(*_from_run(path))


def drawing_of(path: Path) -> tuple[str, str] | None:
    """Return the data set that an export's encoder learnt, and what drew it, `drawn_by` of its manifest.

    None of what is no export, and of one that does not say so.
    """
    try:
        origin = json.loads((shipped.found(path) / METADATA).read_bytes())["origin"]
        return (origin["data_set"], origin["drawn_by"]) if origin["drawn_by"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def saved_path(run: Path) -> Path | None:
    """Return the file of q in a stage 2 run folder, or None."""
    return next((run / name for name in (VAE_FILE, OWN_FILE) if (run / name).is_file()), None)


def _refuse_elsewhere(path: Path) -> None:
    """Raise a UserError where a path is not there, or is not one that an encoder is read from."""
    wanted = "name a run folder of `python -m trainer vae`, an export, a vae.safetensors or an encoder.pt2"
    if not path.exists():
        raise UserError(f"vae: {path}: no such file or folder; {wanted}")
    is_whole = (path / METADATA).is_file() or published.folder(path).is_dir() or path.suffix in (".safetensors", ".pt2")
    run = next((folder for folder in path.parents[:2] if published.steps(folder)), None)
    if not is_whole:
        remedy = f"it lies in the run {run}, whose newest checkpoint vae={run} takes" if run else wanted
        raise UserError(f"vae: {path}: is no run and no file of an encoder; {remedy}")


def _exported_file(folder: Path) -> Path:
    """Return the file of an export's encoder. Raises a UserError where it has none that sees codes in images."""
    try:
        metadata = json.loads((folder / METADATA).read_bytes())
        kind, has_code = metadata["encoder"], metadata["c_dim"] > 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise exported_files.broken(folder / METADATA, error) from None
    if kind not in ("vae", "own"):
        imported = "that was imported without its VAE" if has_code else "which has no code"
        owner = "whose q was learnt with its generator" if kind == "joint" else imported
        raise UserError(
            f"vae: {folder}: is the export of a GAN {owner}; name an export or a run of `python -m trainer vae`"
        )
    name = OWN_ENCODER if kind == "own" else ENCODER
    exported_files.check(folder, name)
    return folder / name


def of_vae(vae: VAE, data_notes: list[str]) -> FrozenEncoder:
    """Return the encoder of a VAE, with the file that a run and an export keep. data_notes: of its training set."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in vae.state_dict().items()}
    notes = {"data_notes": json.dumps(data_notes)} if data_notes else {}
    content = save(tensors, {"channels": str(vae.channels), "c_dim": str(vae.c_dim), **notes})
    return FrozenEncoder(vae.encoder, vae, vae.channels, vae.c_dim, weights_sha256(vae), VAE_FILE, content)


def weights_sha256(network: nn.Module) -> str:
    """Return the identity of a network's weights: a hash over names, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _from_run(path: Path) -> tuple[VAE, list[str]]:
    """Load the VAE of a run's newest usable checkpoint, and the notes of its data set."""
    built: list[VAE] = []

    def like(manifest: dict[str, Any]) -> dict[str, Tensor]:
        config = manifest["config"]
        if kind_of(config) is not VaeConfig:
            raise UserError(f"vae: {path}: is no run of stage 1; name a run folder of `python -m trainer vae`")
        built.append(VAE(manifest["facts"]["channels"], config["c_dim"], "default"))
        return {f"vae.{name}": t for name, t in built[-1].state_dict().items()}

    step, tensors = read_newest(path, like)
    built[-1].load_state_dict({name.removeprefix("vae."): t for name, t in tensors.items()})
    freeze(built[-1])
    return built[-1], published.read_manifest(step).get("data_notes", [])


def _from_file(path: Path) -> tuple[VAE, list[str]]:
    """Load the VAE of a vae.safetensors file, and the notes of its data set."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            vae = VAE(int(metadata["channels"]), int(metadata["c_dim"]), "default")
            vae.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            notes = json.loads(metadata.get("data_notes", "[]"))
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"vae: {path}: not a VAE file ({first_line(error)}); copy it again or name a run folder"
        ) from None
    if bad := finite.not_finite(vae.state_dict()):
        raise UserError(f"vae: {path}: holds values that are not finite ({finite.listed(bad)}); name another encoder")
    freeze(vae)
    return vae, notes
