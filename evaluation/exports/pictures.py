"""Pictures of an export that need neither run nor data: samples, traversals, and the same codes at several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data_shards.format.pyramid import at_most
from trainer.export.exported_model import Model
from trainer.pictures.image_grids import grid, labelled, to_uint8
from trainer.pictures.traversals import LARGEST, by_kl, sheet

SEED = 0


@torch.no_grad()
def samples(model: Model, count: int, columns: int) -> Image.Image:
    """Draw the first `count` random images, at most LARGEST px each."""
    return grid(at_most(to_uint8(model.sample(count, SEED)), LARGEST), columns)


@torch.no_grad()
def whole(model: Model, count: int) -> Tensor:
    """Return the first random images at their full size: uint8 [count, C, R, R]."""
    return to_uint8(model.sample(count, SEED))


@torch.no_grad()
def traversals(model: Model, latents: int) -> Image.Image:
    """Draw linspace(-3, 3, 7) along the latents of the largest KL, from one code and one s.

    Of a generator with a VAE, the decodings stand above its images.
    """
    c, s = model.codes(1, SEED), model.nuisance(1, SEED)

    def draw(along: Tensor) -> Tensor:
        """Make images of codes [B, c_dim] with one s."""
        return to_uint8(model.generate(s.expand(len(along), -1), along))

    def decode(along: Tensor) -> Tensor:
        """Make the VAE's images of codes."""
        return to_uint8(model.decode(along))

    both = model.generator is not None and model.vae is not None
    return sheet(c, by_kl(model.bank, model.metadata.c_dim)[:latents], draw, decode if both else None)


@torch.no_grad()
def same_codes(models: Sequence[Model], count: int) -> Image.Image:
    """Draw the same codes and s by several generators on one encoder, a row each, enlarged to one size.

    On the left stands the size of their images; the first row is what the VAE decodes.
    """
    first = models[0]
    c, s = first.codes(count, SEED), first.nuisance(count, SEED)
    rows = [("VAE, 64 px", to_uint8(first.decode(c)))] if first.vae is not None else []
    rows += [(f"{model.metadata.resolution} px", to_uint8(model.generate(s, c))) for model in models]
    size = min(LARGEST, max(images.shape[-1] for _, images in rows))
    return labelled([(name, grid(_at(images, size), count)) for name, images in rows])


def _at(images: Tensor, size: int) -> Tensor:
    """Shrink images to a size by box means, or enlarge them to it by nearest."""
    return at_most(images, size) if images.shape[-1] > size else F.interpolate(images, size=size)
