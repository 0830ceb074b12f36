"""Find the s, and if asked the c, whose image is nearest to a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import UserError
from data_shards.format.pyramid import at_most
from trainer.export.exported_model import Model

from .renderer import preview_resolution

STEPS = 150
LEARNING_RATE = 0.1
NOISE = 0.1  # standard deviation of a pixel in [0, 1] around the model's image


@dataclass(frozen=True)
class FitStep:
    """The best after some steps.

    error: root of the mean squared difference of pixels in [0, 1]; s, c: [1, dim], s with what stands behind it.
    """

    step: int
    error: float
    s: Tensor
    c: Tensor


def fit(model: Model, picture: Tensor, s: Tensor, c: Tensor, with_c: bool) -> Iterator[FitStep]:
    """Yield the start, and the best so far after each of STEPS steps of Adam.

    What is minimised is |G(s, c) - x|^2 / (2 NOISE^2) + |s|^2 / 2, and + |c|^2 / 2 with c: the most probable latents
    under N(0, I) where each pixel has Gaussian noise. The prior keeps s among those that G was trained with.

    picture: x, uint8 [1, C, R, R]; s: [1, nuisance_dim], c: [1, c_dim]: the start, of which a label vector y behind s
    stays; with_c: whether c is fitted too. A large G that can end early is compared at that resolution. Raises a
    UserError where nothing can be fitted, or the image is not finite.
    """
    resolution = preview_resolution(model)
    target = (picture if resolution is None else at_most(picture, resolution)).to(s.device).float() / 255
    s, y = s.tensor_split([model.metadata.s_dim], 1)
    s, c = s.clone().requires_grad_(), c.clone().requires_grad_(with_c)
    fitted = [latents for latents in (s, c) if latents.requires_grad and latents.numel()]
    if not fitted:
        raise UserError("this model has no s to fit; fit c")
    optimizer = torch.optim.Adam(fitted, lr=LEARNING_RATE)
    best, least = FitStep(0, 0.0, torch.cat((s, y), 1), c), float("inf")
    for step in range(STEPS + 1):
        with torch.enable_grad():
            squares = (model.draw(torch.cat((s, y), 1), c, resolution) - target).square()
            objective = squares.sum() / (2 * NOISE**2) + sum(latents.square().sum() / 2 for latents in fitted)
        if not torch.isfinite(objective):
            raise UserError("the network makes images that are not finite; start from another s")
        if objective.item() < least:
            least = objective.item()
            best = FitStep(step, squares.mean().sqrt().item(), torch.cat((s.detach(), y), 1), c.detach().clone())
        yield FitStep(step, best.error, best.s, best.c)
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
