"""RUN/samples: a grid of generated images for each sample interval."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from common.atomic_writes import publish

COLUMNS = 16


def save_grid(run: Path, images_seen: int, images: Tensor) -> Image.Image:
    """Write images to RUN/samples/IMAGES_SEEN.png and return the picture. images: uint8 [N, C, R, R], C is 1 or 3."""
    grid = make_grid(images.expand(-1, 3, -1, -1), nrow=COLUMNS, padding=2, pad_value=255).permute(1, 2, 0)
    picture = Image.fromarray(grid.numpy())
    path = run / "samples" / f"{images_seen:012d}.png"
    path.parent.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    publish(path, buffer.getvalue())
    return picture
