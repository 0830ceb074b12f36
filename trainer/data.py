"""The stream of real images that a config names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from data_shards import manifest as manifests
from data_shards.errors import UserError
from data_shards.loader import Batch, Draw, Level, batches, open_dataset
from data_shards.variants import Painting, Variant, draw, load_painting

from .config import DataConfig, RunConfig
from .world import World


@dataclass(frozen=True)
class Data:
    """An open data set. channels: of the images that training sees; painting: what Scream is drawn from, or None."""

    main: Level
    twin: Level | None
    channels: int
    painting: Painting | None
    draw: Draw | None

    @property
    def facts(self) -> dict[str, str]:
        """What a resume must find again: hashes of the manifest and of the painting."""
        facts = {"data": self.main.manifest.hash}
        if self.painting is not None:
            facts["painting"] = self.painting.sha256
        return facts

    def batches(self, config: RunConfig, workers: int, start: int, world: World) -> Iterator[Batch]:
        """This process's batches from stream position `start` on, without end."""
        return batches(
            self.main,
            self.twin,
            seed=config.seed,
            start=start,
            batch_size=config.batch_size,
            rank=world.rank,
            world_size=world.size,
            workers=workers,
            draw=self.draw,
            pin_memory=world.device.type == "cuda",
        )

    def first(self, count: int) -> Tensor:
        """The 64 px images of samples 0 to count - 1 at epoch 0: uint8 [N, C, 64, 64]."""
        ids = torch.arange(min(count, self.main.count))
        images = (self.twin or self.main).read_samples(ids.numpy())
        return images if self.draw is None else self.draw(images, ids, torch.zeros_like(ids))


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
    hook = None if variant == "plain" else partial(_draw, variant=variant, seed=seed, painting=painting)
    main = open_dataset(config.path, resolution)
    twin = main if resolution == 64 else open_dataset(config.path, 64)
    return Data(main, twin, manifest.channels if variant == "plain" else 3, painting, hook)


def _draw(
    sprites: Tensor, samples: Tensor, epochs: Tensor, variant: Variant, seed: int, painting: Painting | None
) -> Tensor:
    return draw(variant, sprites, samples, epochs, seed, painting)
