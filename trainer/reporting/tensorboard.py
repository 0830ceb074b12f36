"""RUN/tensorboard: the numbers of every tick and the sample grids."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PX = 2200  # width of a grid in TensorBoard, which keeps it in floats meanwhile: 16 images of 128 px and more


class Board:
    """Event files of a run. images_seen: where it resumes; TensorBoard hides older events after that."""

    def __init__(self, run: Path, images_seen: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=images_seen + 1)

    def numbers(self, images_seen: int, values: Mapping[str, Any]) -> None:
        """Add the values that are numbers."""
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, images_seen)
        self._writer.flush()

    def grid(self, images_seen: int, picture: Image) -> None:
        """Add a sample grid, reduced by a whole factor where it is wider than MOST_PX."""
        import numpy as np

        small = picture.reduce(-(-picture.width // MOST_PX))
        self._writer.add_image("samples", np.asarray(small), images_seen, dataformats="HWC")

    def close(self) -> None:
        """Close the files. An error is ignored: a full disk was reported before, and may refuse the rest as well."""
        with contextlib.suppress(OSError):
            self._writer.close()
