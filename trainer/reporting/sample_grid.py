"""RUN/samples: a grid of generated images for each sample interval."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor

from common.atomic_writes import publish
from trainer.pictures.image_grids import grid, png

COLUMNS = 16


def save_grid(run: Path, images_seen: int, images: Tensor) -> tuple[Image.Image, Path]:
    """Write images to RUN/samples/IMAGES_SEEN.png. Returns the picture and the file.

    images: uint8 [N, C, R, R], C is 1 or 3.
    """
    picture = grid(images, COLUMNS)
    path = run / "samples" / f"{images_seen:012d}.png"
    path.parent.mkdir(exist_ok=True)
    publish(path, png(picture))
    return picture, path
