"""The real images of a data set as training sees them, without flip and dequantisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from common.paths import Location
from data_shards.read.loader import CODE_RESOLUTION, Level, open_dataset
from trainer.stages.data import Data


@dataclass(frozen=True)
class Reals:
    """The images of a set of shards in a folder or at a URL. opened: levels besides those of `data`, by resolution."""

    path: Location
    data: Data
    opened: dict[int, Level]

    @property
    def count(self) -> int:
        """Number of images."""
        return self.data.count

    def at(self, seed: int, positions: Tensor, resolution: int = CODE_RESOLUTION) -> Tensor:
        """Read images in the evaluation's order, variants drawn at epoch 0 of the evaluation's seed.

        positions: int64 [b]. Returns uint8 [b, C, R, R]. The order is a permutation that starts again after its end.
        Raises UserError where the set has no level of this resolution.
        """
        return self.data.at(self.data.mixed(seed, positions), seed, self._level(resolution))

    def identity(self) -> dict[str, Any]:
        """Return what the images depend on, besides seed and resolution."""
        painting = self.data.painting
        return {
            "data_set": self.data.main.manifest.data_set,
            "data": self.data.main.manifest.hash,
            "variant": self.data.variant,
            **({} if painting is None else {"painting_sha256": painting.sha256}),
            **({} if self.data.only is None else {"class": self.data.only.classes}),
        }

    def _level(self, resolution: int) -> Level:
        if resolution in self.data.levels:
            return self.data.levels[resolution]
        if resolution not in self.opened:
            self.opened[resolution] = open_dataset(self.path, resolution)
        return self.opened[resolution]
