"""DINOv2's features against timm's own forward pass, with random weights of its small network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from common.errors import UserError
from evaluation.fid import extractors, frechet
from evaluation.published_networks import dinov2
from tests.evaluation.published_networks.test_inception import images
from trainer.config.sections import InceptionConfig

SMALL = "vit_small_patch14_dinov2"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A file as DINOv2 publishes them, for 518 px, with its mask token; random, and not near nothing."""
    torch.manual_seed(0)
    network = timm.create_model(SMALL, num_classes=0, global_pool="token")
    tensors = {name: torch.randn_like(t) * 0.05 for name, t in network.state_dict().items()}
    tensors |= {
        name: torch.rand_like(t) + 0.5 for name, t in tensors.items() if name.endswith(("norm1.weight", "gamma"))
    }
    path = tmp_path_factory.mktemp("weights") / "dinov2.pth"
    torch.save(tensors | {"mask_token": torch.zeros(1, 384)}, path)
    return path, tensors


def test_features_are_timms_of_a_file_for_the_same_grid(
    published: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    """Of torchvision's resize and normalisation; one channel is three equal ones."""
    tensors = dict(published[1])
    tensors["pos_embed"] = torch.randn(1, 1 + 16 * 16, 384) * 0.05
    save_file(tensors, tmp_path / "grid.safetensors")
    network = timm.create_model(SMALL, img_size=224, num_classes=0, global_pool="token").eval()
    network.load_state_dict(tensors)
    given = images(4, 64)
    resize = v2.Resize((224, 224), interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    x = v2.functional.normalize((resize(given.float()) / 255).clamp(0, 1), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = network(x)
    found = dinov2.dinov2(tmp_path / "grid.safetensors", architecture=SMALL)(given)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert float(expected.std(0).mean()) > 1e-3, "images differ, so that this says something"
    grey = dinov2.prepared(images(2, 64, channels=1))
    assert torch.equal(grey, dinov2.prepared(images(2, 64, channels=1).expand(-1, 3, -1, -1)))


def test_the_positions_of_a_published_file_are_resampled_as_dinov2_does(
    published: tuple[Path, dict[str, Tensor]],
) -> None:
    """Point by point: bicubic without antialiasing, on a grid whose step is 37 / 16.1."""
    path, tensors = published
    old = tensors["pos_embed"]
    assert old.shape[1] == 1 + 37 * 37
    new = dinov2.for_grid(old, 16)
    assert torch.equal(new[:, 0], old[:, 0])
    assert torch.equal(dinov2.for_grid(new, 16), new)
    side = (torch.arange(16) + 0.5) * 37 / 16.1 - 0.5
    rows, columns = torch.meshgrid(side, side, indexing="ij")
    at = torch.stack((columns, rows), -1)[None] * 2 / 36 - 1
    grid = old[:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    expected = F.grid_sample(grid, at, mode="bicubic", padding_mode="border", align_corners=True)
    torch.testing.assert_close(new[:, 1:], expected.flatten(2).transpose(1, 2), rtol=0, atol=1e-5)
    assert dinov2.dinov2(path, architecture=SMALL)(images(1, 64)).shape == (1, 384)


def test_the_network_is_dinov2s_large_one() -> None:
    with torch.device("meta"):
        network = timm.create_model(dinov2.ARCHITECTURE, img_size=224, num_classes=0, global_pool="token")
    state = network.state_dict()
    assert {name.split(".")[1] for name in state if name.startswith("blocks.")} == {str(i) for i in range(24)}
    assert state["norm.weight"].shape == (1024,)
    assert state["patch_embed.proj.weight"].shape == (1024, 3, 14, 14)
    one = {name.removeprefix("blocks.3.") for name in state if name.startswith("blocks.3.")}
    parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    assert one == {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")} | {"ls1.gamma", "ls2.gamma"}
    assert sum(t.numel() for name, t in state.items() if name != "pos_embed") > 300e6


def test_the_distance_is_that_of_two_gaussians(
    published: tuple[Path, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(extractors.LOADERS, "dinov2", lambda path, on: dinov2.dinov2(path, on, SMALL))
    net = extractors.load("dinov2", InceptionConfig(), published[0], None, torch.device("cpu"), extractors.PLAIN)
    assert (net.protocol, net.dim, net.at) == ("dinov2", 384, None)
    both = [net.extract(part, False).features[:, :3] for part in (images(6, 64), images(6, 32))]
    moments = [frechet.Moments.empty(3) for _ in both]
    for kept, features in zip(moments, both, strict=True):
        kept.add(features)
    means, covariances = zip(*((f.double().numpy().mean(0), np.cov(f.double().numpy().T)) for f in both), strict=True)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet.distance(*moments) == pytest.approx(expected, rel=1e-6)


def test_a_missing_or_wrong_file_is_refused(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(UserError, match=r"--weights: is missing; --protocol dinov2 needs the file"):
        extractors.load("dinov2", InceptionConfig(), None, None, cpu, extractors.PLAIN)
    with pytest.raises(UserError, match=r"nowhere\.pth is not there"):
        extractors.load("dinov2", InceptionConfig(), tmp_path / "nowhere.pth", None, cpu, extractors.PLAIN)
    for content, words in (({"a": torch.ones(1)}, "does not hold the weights"), ([1], "holds no tensors by name")):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(UserError, match=words):
            dinov2.dinov2(tmp_path / "other.pth", architecture=SMALL)
    (tmp_path / "other.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be read as weights"):
        dinov2.dinov2(tmp_path / "other.pth", architecture=SMALL)
