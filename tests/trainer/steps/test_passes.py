"""A process's share of a batch in equal passes of at most so many images."""

from __future__ import annotations

import pytest
import torch

from data_shards.read.loader import Batch
from trainer.steps.batches import micro, pass_size


@pytest.mark.parametrize("share", [1, 2, 7, 12, 24, 64])
def test_a_pass_is_the_largest_equal_part_of_at_most_so_many_images(share: int) -> None:
    for most in range(1, 70):
        assert pass_size(share, most) == max(n for n in range(1, share + 1) if share % n == 0 and n <= most)
    assert pass_size(share, None) == pass_size(share, "auto") == share


@pytest.mark.parametrize(("most", "sizes"), [(None, [12]), (12, [12]), (100, [12]), (5, [4, 4, 4]), (1, [1] * 12)])
def test_the_passes_are_the_batch_in_its_order(most: int | None, sizes: list[int]) -> None:
    numbers, images = torch.arange(12), torch.randint(256, (12, 1, 4, 4), dtype=torch.uint8)
    pieces = micro(Batch(numbers, numbers + 1, numbers * 0, images, None), most)
    assert [len(piece.positions) for piece in pieces] == sizes
    assert torch.equal(torch.cat([piece.images for piece in pieces]), images)
    assert torch.equal(torch.cat([piece.samples for piece in pieces]), numbers + 1)
