"""What a run writes for its user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from trainer.reporting.tensorboard import MOST_PX

from trainer.reporting.status import Status


def test_a_large_grid_is_whole_in_its_file_and_small_in_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    status = Status(tmp_path, 100, 0)
    monkeypatch.setattr(status.board._writer, "add_image", lambda name, image, step, dataformats: shown.append(image))
    images = torch.randint(256, (32, 1, 256, 256), dtype=torch.uint8)
    status.samples(7, images)
    status.close()
    with Image.open(tmp_path / "samples" / "000000000007.png") as picture:
        found = np.asarray(picture)
    assert found.shape == (2 * 258 + 2, 16 * 258 + 2, 3)
    assert np.array_equal(found[2:258, 2:258, 0], images[0, 0].numpy())
    assert np.array_equal(found[260:516, 260:516, 2], images[17, 0].numpy())
    (small,) = shown
    assert MOST_PX / 2 < small.shape[1] <= MOST_PX
