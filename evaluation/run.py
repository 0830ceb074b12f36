"""A run folder of either stage, opened to be looked at: networks of its newest checkpoint, and its data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from data_shards.errors import UserError
from models import VAE, CodeEncoder, freeze
from trainer import checkpoint, networks, settings, vae_file
from trainer.config import GanConfig, VaeConfig
from trainer.data import Data, open_data
from trainer.loop import versions


@dataclass(frozen=True)
class Run:
    """step and its manifest name the weights; generator (the EMA) and untrained are None in stage 1."""

    path: Path
    step: Path
    manifest: dict[str, Any]
    config: VaeConfig | GanConfig
    vae: VAE
    generator: nn.Module | None
    untrained: nn.Module | None
    data: Data

    @property
    def images_seen(self) -> int:
        return int(self.manifest["images_seen"])

    @property
    def encoder(self) -> CodeEncoder:
        """q for images in [-1, 1]: the VAE's own."""
        return CodeEncoder(self.vae.encoder)

    @property
    def s_dim(self) -> int:
        return self.config.s_dim if isinstance(self.config, GanConfig) else 0

    @property
    def c_dim(self) -> int:
        return self.config.c_dim

    def describe(self) -> dict[str, Any]:
        """What every record says of the run."""
        painting = self.data.painting
        return {
            "run": str(self.path),
            "stage": "gan" if self.generator is not None else "vae",
            "step": self.step.name,
            "step_sha256": hashlib.sha256((self.step / checkpoint.MANIFEST).read_bytes()).hexdigest(),
            "images_seen": self.images_seen,
            "data": self.data.main.manifest.hash,
            "variant": self.config.data.variant,
            **({} if painting is None else {"painting": painting.source, "painting_sha256": painting.sha256}),
            "world_size": 1,
            "versions": versions(),
        }


def open_run(path: Path) -> Run:
    """Open a run folder. Raises UserError where it holds no run, no usable checkpoint, or other inputs."""
    config_path = path / "config.yaml"
    if not config_path.is_file():
        raise UserError(f"{path}: no run here (no config.yaml); name a folder that `python -m trainer` made")
    is_gan = (path / vae_file.FILE).is_file()
    config = settings.load(GanConfig, config_path) if is_gan else settings.load(VaeConfig, config_path)
    data = open_data(config.data, config.seed, 64)
    if isinstance(config, VaeConfig):
        vae = networks.vae(config, data.channels)
        step, manifest = _load(path, "vae", vae)
        run = Run(path, step, manifest, config, vae, None, None, data)
    else:
        vae = vae_file.load(path / vae_file.FILE)
        untrained, generator = (networks.generator(config, data.channels) for _ in range(2))
        step, manifest = _load(path, "ema", generator)
        run = Run(path, step, manifest, config, vae, freeze(generator), freeze(untrained), data)
    freeze(vae)
    _check(run)
    return run


def _load(path: Path, prefix: str, network: nn.Module) -> tuple[Path, dict[str, Any]]:
    """Fill a network from the newest usable step."""
    like = {f"{prefix}.{name}": t for name, t in network.state_dict().items()}
    step, tensors = checkpoint.read_newest(path, lambda manifest: like)
    network.load_state_dict({name.removeprefix(f"{prefix}."): t for name, t in tensors.items()})
    return step, checkpoint.read_manifest(step)


def _check(run: Run) -> None:
    """Data, painting and VAE must be those of the training."""
    found = run.data.facts | ({} if run.generator is None else {"vae": vae_file.sha256(run.vae)})
    differs = settings.changes(run.manifest["facts"], dict(found))
    if differs:
        raise UserError(
            f"{run.path}: {'; '.join(differs)}: not what it was trained on; mend data.path or data.painting in "
            f"{run.path / 'config.yaml'}, or restore {vae_file.FILE}"
        )
