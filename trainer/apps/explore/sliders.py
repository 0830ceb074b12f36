"""Which latents have a slider, and in which order: those of the code by their KL, or those of s where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trainer.export.exported_model import Model
from trainer.pictures.traversals import COLLAPSED, largest_kl_first
from trainer.pictures.walks import TRAVERSAL_LIMIT

MEASURED_IMAGES, MEASURED_PX = 256, 64  # of a model without codes of training images


class Slider(NamedTuple):
    """A latent: its name, such as c3; the vector that it is in, and its place there; its KL in nats, if known."""

    latent: str
    vector: Literal["s", "c"]
    place: int
    kl: float | None

    @property
    def is_collapsed(self) -> bool:
        """Whether the encoder is known to say nothing by it."""
        return self.kl is not None and self.kl < COLLAPSED


class Sliders(NamedTuple):
    """All sliders in their order; limit: they go from -limit to limit; order: what orders them, for a reader."""

    sliders: Sequence[Slider]
    limit: int
    order: str


def sliders_of(model: Model) -> Sliders:
    """Return the sliders of a model: the largest KL first, where it has an encoder."""
    metadata = model.metadata
    if metadata.c_dim == 0:
        of_s = [Slider(f"s{j + 1}", "s", j, None) for j in range(metadata.s_dim)]
        return Sliders(of_s, TRAVERSAL_LIMIT, "A GAN without a code: sliders move s, in the order of its dimensions.")
    posteriors, order = _posteriors(model)
    if posteriors is None:
        of_c = [Slider(f"c{j + 1}", "c", j, None) for j in range(metadata.c_dim)]
        return Sliders(of_c, TRAVERSAL_LIMIT, order)
    of_c = [Slider(f"c{j + 1}", "c", j, nats) for j, nats in largest_kl_first(posteriors)]
    return Sliders(of_c, max(TRAVERSAL_LIMIT, math.ceil(posteriors[0].abs().max())), order)


def _posteriors(model: Model) -> tuple[tuple[Tensor, Tensor] | None, str]:
    """Return mean and logvar [N, c_dim] of the encoder for images, and what the KL is measured of, for a reader.

    The images are those of training, whose posteriors an export holds, or some that the model makes.
    """
    if model.bank is not None:
        return model.bank, f"Sorted by KL over {len(model.bank[0]):,} training images."
    if model.encoder is None:
        return None, "This export has no encoder: the KL of its latents is not known. They are in their own order."
    if model.vae is None and model.metadata.resolution > MEASURED_PX:
        return (
            None,
            "This export has no codes of images: the KL of its latents is not known. They are in their own order.",
        )
    at = torch.arange(MEASURED_IMAGES)
    c = model.codes(at)
    images = model.decode(c) if model.vae is not None else model.generate(model.nuisance(at), c)
    made = "decodings" if model.vae is not None else "images of its own"
    return model.encode(images), f"Sorted by KL over {MEASURED_IMAGES} {made}: this export has no codes of images."
