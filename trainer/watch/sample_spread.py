"""How much samples differ from each other, as a part of what reals do: next to 0 where G ignores its input."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from data_shards.read.loader import CODE_RESOLUTION
from trainer.distributed.engines.base import filled
from trainer.stages.base import grid_reals
from trainer.stages.gan import GanStage
from trainer.steps.schedule import Now

IMAGES = 16


class SampleSpread:
    """Measures it on IMAGES samples of the weights that are trained, not of an average, with the noise of the grids.

    It draws no random number of training, and the network stays as it is.
    """

    def __init__(self, stage: GanStage) -> None:
        self.stage = stage
        self._inputs: Tensor | None = None
        self._reals: Tensor | None = None

    @torch.no_grad()
    def measure(self, now: Now) -> float:
        """Return spread(samples) / spread(reals); 1 where the reals are all alike. A collective call.

        Both are compared at the resolution of now, at most 64 px.
        """
        if self._inputs is None or self._reals is None:
            self._inputs = self.stage.grid_inputs(IMAGES)
            self._reals = grid_reals(self.stage.data, IMAGES).float() / 127.5 - 1
        engine = self.stage.g
        generator = filled(engine.blueprint, engine.full_tensors(engine.shards()))
        parts = [_at_most(images, CODE_RESOLUTION) for images in self.stage.generate(generator, self._inputs, now)]
        of_reals = spread(_at_most(self._reals, now.resolution))
        return spread(torch.cat(parts)) / of_reals if of_reals else 1.0


def spread(images: Tensor) -> float:
    """Return the standard deviation over images [N, C, R, R], as a mean over pixels and channels."""
    return float(images.double().std(dim=0, correction=0).mean())


def _at_most(images: Tensor, resolution: int) -> Tensor:
    """Return images of at most this resolution, as box means."""
    factor = images.shape[-1] // resolution
    return F.avg_pool2d(images, factor) if factor > 1 else images
