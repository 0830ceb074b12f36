"""A run folder of either stage, opened to be looked at: networks of its newest checkpoint, and its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_shards.errors import UserError
from models import VAE, CodeEncoder, freeze
from trainer import checkpoint, networks, settings, vae_file
from trainer.config import GanConfig, VaeConfig
from trainer.data import Data, open_data

DTYPE = torch.float32


@dataclass(frozen=True)
class Run:
    """path, step and hash name the weights; generator (the EMA) and untrained are None in stage 1."""

    path: Path
    step: Path
    images_seen: int
    config: VaeConfig | GanConfig
    vae: VAE
    generator: nn.Module | None
    untrained: nn.Module | None
    data: Data

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
            "images_seen": self.images_seen,
            "data": self.data.main.manifest.hash,
            "variant": self.config.data.variant,
            **({} if painting is None else {"painting": painting.source, "painting_sha256": painting.sha256}),
            "torch": torch.__version__,
        }

    def uint8(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as they would be saved."""
        return (images * 255).round().clamp(0, 255).to(torch.uint8)


def open_run(path: Path) -> Run:
    """Open a run folder. Raises UserError where it holds no run or no usable checkpoint."""
    config_path = path / "config.yaml"
    if not config_path.is_file():
        raise UserError(f"{path}: no run here (no config.yaml); name a folder that `python -m trainer` made")
    step = checkpoint.newest(path)
    if step is None:
        raise UserError(f"{path}: no usable checkpoint yet; train the run further, then evaluate it")
    manifest = checkpoint.read_manifest(step)
    is_gan = (path / vae_file.FILE).is_file()
    config = settings.load(GanConfig, config_path) if is_gan else settings.load(VaeConfig, config_path)
    data = open_data(config.data, config.seed, 64)
    if data.main.manifest.hash != manifest["facts"]["data"]:
        raise UserError(
            f"{config.data.path}: holds other shards than {path} was trained on; set data.path to the right ones"
        )
    vae = vae_file.load(path / vae_file.FILE if is_gan else path)
    generator = untrained = None
    if isinstance(config, GanConfig):
        untrained = freeze(networks.generator(config, data.channels))
        generator = freeze(networks.generator(config, data.channels))
        weights = {f"ema.{name}": torch.empty_like(t) for name, t in generator.state_dict().items()}
        checkpoint.load_tensors(step, weights)
        generator.load_state_dict({name.removeprefix("ema."): t for name, t in weights.items()})
    return Run(path, step, int(manifest["images_seen"]), config, vae, generator, untrained, data)
