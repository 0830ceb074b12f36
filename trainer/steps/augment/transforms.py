"""Transforms of images, each affine in the image: `transform(x)` is L x + b, and `transform(x, linear=True)` is L x.

That is what R1 needs, which is taken at the image before them: L carries a tangent, and its transpose (which autograd
gives) a gradient. Resampling is a product with matrices, whose backward pass sums in the same order every time; that of
torch's grid_sample does not on a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Transform(Protocol):
    """A map of images [B, C, R, R] to images of the same shape, with parameters of its own for each image."""

    def __call__(self, x: Tensor, linear: bool = False) -> Tensor:
        """Return L x + b, or L x alone."""


@dataclass(frozen=True)
class Resampling:
    """Rows and columns replaced by weighted sums of rows and columns, after a turn over the main diagonal if asked.

    rows, columns: [B, R, R], entry (i, j) the weight of old j in new i (see `interpolation`); swapped: bool [B], images
    whose rows and columns change places first; None is none.
    """

    rows: Tensor
    columns: Tensor
    swapped: Tensor | None = None

    def __call__(self, x: Tensor, linear: bool = False) -> Tensor:
        """Return the resampled images; there is no offset."""
        if self.swapped is not None:
            x = torch.where(_per_image(self.swapped), x.transpose(-1, -2), x)
        return self.rows[:, None] @ x @ self.columns[:, None].transpose(-1, -2)


@dataclass(frozen=True)
class ColorMap:
    """Each pixel's channels times a matrix, plus an offset. matrix: [B, C, C]; offset: [B, C]."""

    matrix: Tensor
    offset: Tensor

    def __call__(self, x: Tensor, linear: bool = False) -> Tensor:
        """Return the recoloured images."""
        y = (self.matrix @ x.flatten(2)).reshape(x.shape)
        return y if linear else y + self.offset[:, :, None, None]


@dataclass(frozen=True)
class Contrast:
    """Each image's distance from its own mean (over pixels and channels) times a factor. factor: [B]."""

    factor: Tensor

    def __call__(self, x: Tensor, linear: bool = False) -> Tensor:
        """Return images of another contrast; there is no offset: the mean is linear in the image."""
        mean = x.mean((1, 2, 3), keepdim=True)
        return mean + (x - mean) * _per_image(self.factor)


@dataclass(frozen=True)
class Mask:
    """Pixels times 0 or 1; 0 is mid-grey. kept: [B, R, R]."""

    kept: Tensor

    def __call__(self, x: Tensor, linear: bool = False) -> Tensor:
        """Return the images with what is not kept cut out; there is no offset."""
        return x * self.kept[:, None]


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def interpolation(source: Tensor, reflect: bool) -> Tensor:
    """Return the matrix of linear interpolation along one axis: [..., R] -> [..., R, R].

    source: for each new pixel, where it looks at the old ones, in pixels, 0 the centre of the first. Beyond the edge it
    meets 0, or the image reflected at its edge (the outermost pixel comes twice). At whole numbers the matrix holds
    zeros and ones alone.
    """
    size = source.shape[-1]
    if reflect:
        beyond = torch.remainder(source + 0.5, 2 * size)  # the reflected image repeats after 2 R
        source = (torch.minimum(beyond, 2 * size - beyond) - 0.5).clamp(0, size - 1)
    old = torch.arange(size, device=source.device, dtype=source.dtype)
    return (1 - (source[..., None] - old).abs()).clamp(min=0)


def cut_out(row: Tensor, column: Tensor, size: int) -> Mask:
    """Return the mask of a square with half of an image's side. row, column: [B], its centre in [0, 1] of the image."""
    pixels = (torch.arange(size, device=row.device, dtype=row.dtype) + 0.5) / size
    outside_rows, outside_columns = ((pixels - centre[:, None]).abs() >= 0.25 for centre in (row, column))
    return Mask((outside_rows[:, :, None] | outside_columns[:, None, :]).to(row.dtype))


def grey_axis(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the projection of colours [3] onto their mean (R, G and B weigh the same): [3, 3]."""
    return torch.full((3, 3), 1 / 3, dtype=dtype, device=device)


def hue_rotation(angle: Tensor) -> Tensor:
    """Return the rotation of colours around the grey axis. angle: [B], in radians -> [B, 3, 3] (Rodrigues' formula)."""
    eye, grey = torch.eye(3, dtype=angle.dtype, device=angle.device), grey_axis(angle.dtype, angle.device)
    turn = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=angle.dtype, device=angle.device) / math.sqrt(3)
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return cosine * eye + sine * turn + (1 - cosine) * grey


def for_channels(matrix: Tensor, offset: Tensor, channels: int) -> ColorMap:
    """Return a map of RGB colours for images of as many channels: a grey image is one whose R, G and B are the same.

    matrix: [B, 3, 3]; offset: [B, 3]. Raises ValueError for channels other than 1 and 3.
    """
    if channels == 3:
        return ColorMap(matrix, offset)
    if channels != 1:
        raise ValueError(f"{channels} channels have no colours")
    return ColorMap(matrix.sum(2, keepdim=True).mean(1, keepdim=True), offset.mean(1, keepdim=True))
