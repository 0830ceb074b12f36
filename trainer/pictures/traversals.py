"""Traversals as a picture: a row of images along each latent, the VAE's decodings above the generator's images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data_shards.format.pyramid import at_most
from trainer.steps.losses import kl_per_latent

from .image_grids import grid, labelled
from .walks import TRAVERSAL_STEPS, traversal_codes

COLLAPSED = 0.01  # nats; below, a latent says nothing (docs/glossary.md)
LARGEST = 256  # px of an image in a picture of many; larger ones are shrunk to it by box means
Draw = Callable[[Tensor], Tensor]
"""Latents [B, dim] -> images uint8 [B, C, R, R]."""


def largest_kl_first(posteriors: tuple[Tensor, Tensor]) -> list[tuple[int, float]]:
    """Return (latent, KL from the prior in nats, mean over images) of all latents of the code, the largest KL first.

    posteriors: mean and logvar [N, c_dim] of q for images.
    """
    kl = kl_per_latent(*posteriors)
    return [(j, float(kl[j])) for j in kl.argsort(descending=True).tolist()]


def by_kl(posteriors: tuple[Tensor, Tensor] | None, c_dim: int) -> list[tuple[int, str]]:
    """Return (latent, label) of all latents of the code, the largest KL first.

    posteriors: mean and logvar [N, c_dim] of q for images; None leaves the latents in their own order, without KL.
    """
    if posteriors is None:
        return [(j, f"c{j + 1}") for j in range(c_dim)]
    return [(j, f"c{j + 1}\nKL {nats:.2f} nats") for j, nats in largest_kl_first(posteriors)]


def rows_of(label: str, images: Tensor, decodings: Tensor | None) -> list[tuple[str, Tensor]]:
    """Return the rows of a traversal, each with its label: where there are decodings, these above the images.

    images: uint8 [K, C, R, R]; decodings: the VAE's, of any size, which are enlarged to R px (nearest).
    """
    if decodings is None:
        return [(label, images)]
    return [(label, F.interpolate(decodings, size=images.shape[-1])), ("", images)]


def sheet(base: Tensor, latents: Sequence[tuple[int, str]], draw: Draw, decode: Draw | None) -> Image.Image:
    """Draw linspace(-3, 3, 7) along some latents of one base [1, dim], at most LARGEST px an image.

    latents: (number from 0, label); decode: the VAE's images, which stand above those of `draw`, or None.
    """
    rows: list[tuple[str, Image.Image]] = []
    for latent, label in latents:
        along = traversal_codes(base, latent)[0]
        images = rows_of(label, at_most(draw(along), LARGEST), None if decode is None else decode(along))
        rows += [(text, grid(row, TRAVERSAL_STEPS)) for text, row in images]
    return labelled(rows)
