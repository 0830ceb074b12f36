"""The stream of real images that a config names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from data_shards import manifest as manifests
from data_shards.errors import UserError
from data_shards.loader import Batch, Level, batches, open_dataset
from data_shards.noise import Purpose
from data_shards.order import permutation
from data_shards.variants import Painting, Variant, draw, load_painting

from .config import DataConfig, RunConfig
from .world import World


@dataclass(frozen=True)
class Data:
    """An open data set. channels: of the images that training sees; seed: of the order and of the variants' draws."""

    main: Level
    twin: Level | None
    channels: int
    variant: Variant
    painting: Painting | None
    seed: int

    @property
    def facts(self) -> dict[str, str | int]:
        """What a resume and an evaluation must find again: hashes of the manifest and of the painting, channels."""
        facts: dict[str, str | int] = {"data": self.main.manifest.hash, "channels": self.channels}
        if self.painting is not None:
            facts["painting"] = self.painting.sha256
        return facts

    def batches(self, config: RunConfig, start: int, world: World) -> Iterator[Batch]:
        """This process's batches from stream position `start` on, without end."""
        return batches(
            self.main,
            self.twin,
            seed=self.seed,
            start=start,
            batch_size=config.batch_size,
            rank=world.rank,
            world_size=world.size,
            workers=config.data.workers,
            draw=None if self.variant == "plain" else self._draw,
            pin_memory=world.device.type == "cuda",
        )

    def _draw(self, sprites: Tensor, samples: Tensor, epochs: Tensor) -> Tensor:
        return draw(self.variant, sprites, samples, epochs, self.seed, self.painting)

    def at(self, samples: Tensor, seed: int) -> Tensor:
        """The 64 px images of sample ids int64 [N], drawn as at epoch 0 of `seed`: uint8 [N, C, 64, 64]."""
        images = (self.twin or self.main).read_samples(samples.numpy())
        return draw(self.variant, images, samples, torch.zeros_like(samples), seed, self.painting)

    def mixed(self, seed: int, positions: Tensor) -> Tensor:
        """Sample ids at positions int64 [N] of the evaluation's order, a permutation that starts again at its end."""
        order = permutation(seed, 0, self.main.count, Purpose.EVAL_ORDER)
        return torch.from_numpy(order[positions.numpy() % self.main.count].copy())


def open_data(config: DataConfig, seed: int, resolution: int) -> Data:
    """Open the shards at one resolution, with the 64 px twin. Raises UserError with key, value and remedy."""
    manifest = manifests.load(config.path)
    variant = config.variant
    if variant != "plain" and manifest.data_set != "dsprites":
        raise UserError(
            f"data.variant: {variant} draws on dSprites, but {config.path} holds {manifest.data_set}; "
            "set data.variant=plain"
        )
    painting = load_painting(config.painting) if variant == "scream" else None
    main = open_dataset(config.path, resolution)
    twin = main if resolution == 64 else open_dataset(config.path, 64)
    return Data(main, twin, manifest.channels if variant == "plain" else 3, variant, painting, seed)
