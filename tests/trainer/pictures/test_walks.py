"""Walks through latent space against closed forms."""

from __future__ import annotations

import torch

from trainer.pictures.walks import loop, slerp, swing, traversal_codes


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


def test_a_loop_passes_through_every_key_and_returns_to_the_first() -> None:
    keys = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[-1.0, 0.0]]])
    walk = torch.stack(list(loop(keys, 4)))
    assert walk.shape == (12, 1, 2)
    assert torch.allclose(walk[::4], keys, atol=1e-6)
    assert torch.allclose(walk[2], torch.tensor([[0.5, 0.5]]) * 2**0.5, atol=1e-6)
    assert torch.allclose(walk[9], torch.tensor([[-0.5, 0.0]]), atol=1e-6)  # opposite: straight back to the first key


def test_a_swing_goes_up_down_and_back() -> None:
    base = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    moments = torch.stack(list(swing(base, 1, 4)))
    assert torch.allclose(moments[:, :, 1], torch.tensor([0.0, 3.0, 0.0, -3.0])[:, None].expand(-1, 2), atol=1e-6)
    assert torch.equal(moments[:, :, 0], torch.tensor([1.0, 3.0]).expand(4, -1))
    assert torch.equal(base, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
