"""The augmentation of a run: what acts on the images of one pass through D."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.profiler import record_function

from common.random_numbers import Purpose
from trainer.config.schema import AdaConfig, DiffAugmentConfig
from trainer.distributed.world import World
from trainer.steps.running_means import Terms

from . import ada, diffaugment
from .ada import AugmentProbability
from .draws import Draws
from .transforms import Transform


class Augmentation:
    """Transforms of the images of one pass, [B, C, R, R] in [-1, 1], one after the other. Without any it is nothing."""

    def __init__(self, transforms: Sequence[Transform] = ()) -> None:
        self.transforms = transforms

    def __call__(self, x: Tensor) -> Tensor:
        """Return the images that D sees."""
        return self._applied(x, linear=False)

    def along(self, tangent: Tensor) -> Tensor:
        """Return the tangent at the images that D sees of a tangent at x. Shapes as those of the images."""
        return self._applied(tangent, linear=True)

    def _applied(self, x: Tensor, linear: bool) -> Tensor:
        if not self.transforms:  # no region in profiles of runs without augmentation
            return x
        with record_function("augment"):
            for transform in self.transforms:
                x = transform(x, linear)
        return x

    def back(self, gradient: Tensor) -> Tensor:
        """Return the gradient at x of a gradient at the images that D sees: the transpose of `along`."""
        if not self.transforms:
            return gradient
        with torch.enable_grad():
            x = torch.zeros_like(gradient).requires_grad_()
            return torch.autograd.grad(self.along(x), x, gradient)[0]


class Augmenter:
    """Chooses the augmentation of each pass, a function of (seed, purpose, positions) and, under ADA, of p.

    state: the tensors that are training state, by name. names: the terms that `metrics` and `step` give. Without a
    config it chooses no transforms, and has neither.
    """

    def __init__(
        self, config: DiffAugmentConfig | AdaConfig | None, seed: int, world: World, dtype: torch.dtype
    ) -> None:
        self.config, self.seed = config, seed
        self.probability = AugmentProbability(config, world, dtype) if isinstance(config, AdaConfig) else None
        self.state: dict[str, Tensor] = {}
        self.names: tuple[str, ...] = ()
        if self.probability:
            self.state = {"augment.p": self.probability.p, "augment.since": self.probability.since}
            self.names = ("sure_of_reals", "augment_p")

    @torch.no_grad()
    def augmentation(self, purpose: Purpose, positions: Tensor, images: Tensor) -> Augmentation:
        """Return what acts on images [B, C, R, R] at int64 positions [B] of the stream."""
        if self.config is None:
            return Augmentation()
        draws = Draws(self.seed, purpose, positions, images.dtype)
        if isinstance(self.config, DiffAugmentConfig):
            return Augmentation(diffaugment.transforms(self.config, draws, images))
        assert self.probability is not None
        return Augmentation(ada.transforms(self.config, self.probability.p.to(images.dtype), draws, images))

    def metrics(self, logits: Tensor, paired: Tensor | None) -> dict[str, Tensor]:
        """Return r = E[sign D(x)] of reals, or of D(x) - D(G(z)) where the objective pairs them; [B] each."""
        if not self.names:
            return {}
        return {"sure_of_reals": torch.sign(logits.detach() if paired is None else logits.detach() - paired).mean()}

    def step(self, terms: Terms, batch_size: int) -> None:
        """Move p by r in terms at the end of an iteration, and add the p that it used to them. batch_size: global."""
        if self.probability:
            self.probability.step(terms, batch_size)
