"""The stream of real images that a config names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import UserError
from common.random_numbers import Purpose
from data_shards.format import manifest as manifests
from data_shards.read.dsprites_variants import Painting, draw, load_painting
from data_shards.read.loader import CODE_RESOLUTION, Batch, Level, batches, open_dataset
from data_shards.read.sample_order import permutation
from data_shards.read.variant_names import Variant
from trainer.config.schema import RunConfig
from trainer.config.sections import DataConfig
from trainer.distributed.world import World
from trainer.steps.schedule import Now


@dataclass(frozen=True)
class Data:
    """An open data set. channels: of the images that training sees; seed: of the order and of the variants' draws.

    levels: by resolution, what the schedule reads; wants_encoder_images: whether an encoder looks at the 64 px images.
    """

    levels: dict[int, Level]
    wants_encoder_images: bool
    channels: int
    variant: Variant
    painting: Painting | None
    seed: int

    @property
    def main(self) -> Level:
        """The largest level."""
        return self.levels[max(self.levels)]

    @property
    def facts(self) -> dict[str, str | int]:
        """What a resume and an evaluation must find again: hashes of the manifest and of the painting, channels."""
        facts: dict[str, str | int] = {"data": self.main.manifest.hash, "channels": self.channels}
        if self.painting is not None:
            facts["painting"] = self.painting.sha256
        return facts

    def batches(self, config: RunConfig, now: Now, start: int, world: World) -> Iterator[Batch]:
        """This process's batches for a resolution and batch size from stream position `start` on, without end."""
        return batches(
            self.levels[max(now.resolution, CODE_RESOLUTION)],
            self.levels[CODE_RESOLUTION] if self.wants_encoder_images else None,
            seed=self.seed,
            start=start,
            batch_size=now.batch_size,
            rank=world.rank,
            world_size=world.size,
            workers=config.data.workers,
            draw=None if self.variant == "plain" else self._draw,
            pin_memory=world.device.type == "cuda",
        )

    def _draw(self, sprites: Tensor, samples: Tensor, epochs: Tensor) -> Tensor:
        return draw(self.variant, sprites, samples, epochs, self.seed, self.painting)

    def at(self, samples: Tensor, seed: int, level: Level | None = None) -> Tensor:
        """Images of sample ids int64 [N], drawn as at epoch 0 of `seed`: uint8 [N, C, R, R], at 64 px or of a level."""
        images = (level or self.levels[CODE_RESOLUTION]).read_samples(samples.numpy())
        return draw(self.variant, images, samples, torch.zeros_like(samples), seed, self.painting)

    def mixed(self, seed: int, positions: Tensor) -> Tensor:
        """Sample ids at positions int64 [N] of the evaluation's order, a permutation that starts again at its end."""
        order = permutation(seed, 0, self.main.count, Purpose.EVAL_ORDER)
        return torch.from_numpy(order[positions.numpy() % self.main.count].copy())


def open_data(
    config: DataConfig, seed: int, resolutions: Sequence[int] = (CODE_RESOLUTION,), wants_encoder_images: bool = True
) -> Data:
    """Open the shards at the resolutions of a schedule, and at 64 px. Raises UserError with key, value and remedy.

    Stages below 64 px read that level. wants_encoder_images: batches carry it beside larger images.
    """
    folder = config.local or config.path
    manifest = manifests.load(folder)
    variant = config.variant
    if variant != "plain" and manifest.data_set != "dsprites":
        raise UserError(
            f"data.variant: {variant} draws on dSprites, but {folder} holds {manifest.data_set}; set data.variant=plain"
        )
    if config.painting is not None and variant != "scream":
        raise UserError(
            f"data.painting: {config.painting}, but data.variant is {variant}, which has none; set data.painting=null, "
            "or data.variant=scream"
        )
    painting = load_painting(config.painting) if variant == "scream" else None
    wanted = {CODE_RESOLUTION, *(max(r, CODE_RESOLUTION) for r in resolutions)}
    missing = sorted(wanted - set(manifest.resolutions))
    if missing:
        every = ",".join(map(str, sorted(wanted | set(manifest.resolutions), reverse=True)))
        raise UserError(
            f"data.path: {folder} has no {', '.join(f'{r} px' for r in missing)}; make the set again with "
            f"--resolutions {every}"
        )
    levels = {r: open_dataset(folder, r) for r in sorted(wanted)}
    return Data(levels, wants_encoder_images, manifest.channels if variant == "plain" else 3, variant, painting, seed)
