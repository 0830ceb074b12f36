"""The Inception networks against clean-fid's own, with random weights in place of the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import build_resizer
from torch import Tensor, nn

from benchmarks.fid import network
from common.errors import UserError
from evaluation.published_networks import inception
from tests.support.evaluating import pytorch_fid, random_inception


def images(count: int, side: int, channels: int = 3) -> Tensor:
    """Smooth and noisy ones, up to the ends of the range."""
    random = torch.Generator().manual_seed(side)
    coarse = torch.rand(count, channels, 8, 8, generator=random)
    smooth = nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    noise = (
        torch.randn(count, channels, side, side, generator=random) * torch.linspace(0, 0.5, count)[:, None, None, None]
    )
    return ((smooth + noise) * 255).round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("side", [32, 64, 299, 512, 1024])
@pytest.mark.parametrize("mode", ["clean", "legacy_pytorch"])
def test_images_are_resized_as_clean_fid_resizes_files(mode: str, side: int) -> None:
    ours = {"clean": inception.for_clean, "legacy_pytorch": inception.for_legacy_pytorch}[mode]
    given, resize = images(3, side), build_resizer(mode)
    expected = np.stack([resize(image.permute(1, 2, 0).numpy()) for image in given])
    assert np.abs(ours(given).permute(0, 2, 3, 1).numpy() - expected).max() < 0.004


def test_one_channel_is_three_equal_ones() -> None:
    grey = images(2, 64, channels=1)
    assert torch.equal(inception.for_clean(grey), inception.for_clean(grey.expand(-1, 3, -1, -1)))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_inception(tmp_path_factory.mktemp("weights") / "random.pth")


def test_features_are_pytorch_fids(weights: Path) -> None:
    """Takes more than ten seconds: the whole Inception network looks at 24 images, ours and pytorch-fid's."""
    given = images(12, 64)
    expected = pytorch_fid(given, weights)
    found = inception.legacy_pytorch(weights)(given)
    assert found.shape == (12, inception.FEATURES)
    assert expected.std(0).median() > 1e-3 * expected.abs().mean()  # images differ, so that this says something
    assert (found - expected).norm() < 1e-4 * expected.norm()
    centred = found - found.mean(0), expected - expected.mean(0)
    assert (centred[0] - centred[1]).norm() < 1e-4 * centred[1].norm()


def test_features_are_clean_fids(tmp_path: Path) -> None:
    file = network(tmp_path)
    theirs = InceptionV3W(str(tmp_path), download=False)
    given, resize = images(8, 64), build_resizer("clean")
    files = np.stack([resize(image.permute(1, 2, 0).numpy()) for image in given])
    with torch.no_grad():
        expected = theirs(torch.from_numpy(files).permute(0, 3, 1, 2))
    found = inception.clean(file)(given)
    assert found.shape == expected.shape
    assert (found - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("content", [b"", b"no network", b"PK\x03\x04 no archive"])
def test_files_that_are_no_such_network(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"file.pt: is not the TorchScript Inception of clean-fid"):
        inception.clean(path)
    with pytest.raises(UserError, match=r"file.pt: does not hold the weights of pytorch-fid's Inception"):
        inception.legacy_pytorch(path)


def test_weights_of_another_network(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other.pth: does not hold the weights"):
        inception.legacy_pytorch(tmp_path / "other.pth")
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other.pt: is not the TorchScript Inception"):
        inception.clean(tmp_path / "other.pt")
