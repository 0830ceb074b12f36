"""Walks through latent space against closed forms."""

from __future__ import annotations

import torch

from trainer.pictures.walks import slerp, traversal_codes


def test_slerp_goes_along_the_arc() -> None:
    a, b = torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 4.0], [1.0, 0.0], [-1.0, 0.0]])
    half = torch.tensor([[3 / 2**0.5, 3 / 2**0.5], [1.0, 0.0], [0.0, 0.0]])
    assert torch.allclose(slerp(a, b, 0.5), half, atol=1e-6)
    assert torch.allclose(slerp(a, b, 0.0), a)
    assert torch.allclose(slerp(a, b, 1.0), b, atol=1e-6)
    assert slerp(a[:, :0], b[:, :0], 0.5).shape == (3, 0)


def test_a_traversal_sets_one_latent_alone() -> None:
    base = torch.randn(2, 3)
    codes = traversal_codes(base, 1)
    assert codes.shape == (2, 7, 3)
    assert torch.equal(codes[:, :, 1], torch.tensor([-3.0, -2, -1, 0, 1, 2, 3]).expand(2, -1))
    assert torch.equal(codes[:, :, [0, 2]], base[:, None, [0, 2]].expand(-1, 7, -1))
