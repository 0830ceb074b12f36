"""Sprite fidelity and FID of reals that pass for generated ones, at the resolution of every phase."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_shards.read.dsprites_variants import draw
from data_shards.read.loader import CODE_RESOLUTION, Level, open_dataset
from data_shards.read.variant_names import Variant
from data_shards.sources.sprites.renderer import classes, factors_of
from evaluation.factors.extractor import at_64_px
from evaluation.factors.factor_network import load_factor_extractor, sprite_iou, sprite_mask
from evaluation.fid.extractors import shipped
from evaluation.fid.frechet import Moments, distance
from evaluation.inputs.images import Maker, generate
from evaluation.inputs.run import GrownGenerator
from tests.evaluation.factors.test_factor_network import prediction_of
from tests.support.data_sets import make_dsprites

NET = shipped(load_factor_extractor())
COUNT = {256: 256, 1024: 96}  # images of the sets, by their largest level


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Sets by their largest level, each with every level down to 64 px."""
    root = tmp_path_factory.mktemp("resolutions")
    levels = {256: "256,128,64", 1024: "1024,512,256,128,64"}
    return {top: make_dsprites(root / f"{top}", COUNT[top], r, per_shard=64) for top, r in levels.items()}


class Measured(NamedTuple):
    moments: Moments
    fidelity: float


class Replay(nn.Module):
    """A generator whose image of z = (sample id) is that real, drawn at its own resolution, in [-1, 1]."""

    def __init__(self, level: Level, variant: Variant) -> None:
        super().__init__()
        self.level, self.variant = level, variant

    def forward(self, z: Tensor, resolution: int, alpha: Tensor | None) -> Tensor:
        samples = z[:, 0].long()
        sprites = self.level.read_samples(samples.numpy())
        images = draw(self.variant, sprites, samples, torch.zeros_like(samples), 0).float() / 127.5 - 1
        return F.avg_pool2d(images, images.shape[-1] // resolution)


def measured(root: Path, resolution: int, variant: Variant, count: int) -> Measured:
    """The reals of a set as if a generator at this resolution had made them."""
    level = open_dataset(root, max(resolution, CODE_RESOLUTION))
    network = GrownGenerator(Replay(level, variant), {"resolution": resolution})
    return seen(lambda at: generate(network, torch.empty(len(at), 0), at[:, None].float()), count)


def twins(root: Path, variant: Variant, count: int) -> Measured:
    """The same reals as the evaluation reads them: the 64 px level."""
    level = open_dataset(root, CODE_RESOLUTION)
    return seen(lambda at: draw(variant, level.read_samples(at.numpy()), at, torch.zeros_like(at), 0), count)


def seen(make: Maker, count: int) -> Measured:
    found = NET.extract(make(torch.arange(count)), True)
    moments = Moments.empty(NET.dim)
    moments.add(found.features)
    assert found.faithful is not None
    return Measured(moments, float(found.faithful.double().mean()))


@pytest.mark.parametrize("variant", ["plain", "color"])
@pytest.mark.parametrize(("top", "resolution"), [(256, 128), (256, 256), (1024, 128), (1024, 512), (1024, 1024)])
def test_reals_at_a_stage_are_faithful_and_as_far_from_the_reference_as_their_twins(
    top: int, resolution: int, variant: Variant, roots: dict[int, Path]
) -> None:
    large = measured(roots[top], resolution, variant, COUNT[top])
    small = twins(roots[top], variant, COUNT[top])
    assert large.fidelity >= 0.95
    assert large.fidelity == small.fidelity
    assert distance(large.moments, small.moments) < 1e-3


@pytest.mark.parametrize("variant", ["plain", "color"])
def test_at_32_px_reals_are_faithful_and_their_blur_is_seen_by_fid(variant: Variant, roots: dict[int, Path]) -> None:
    """A 32 px image holds less than the reals it is compared with: the floor of FID there is not 0."""
    large, small = measured(roots[256], 32, variant, 256), twins(roots[256], variant, 256)
    assert large.fidelity >= 0.95
    assert 0.02 < distance(large.moments, small.moments) < 0.5


def test_images_are_pooled_like_the_stored_level(roots: dict[int, Path]) -> None:
    at = torch.arange(32).numpy()
    large, small = (open_dataset(roots[1024], r).read_samples(at) for r in (1024, 64))
    assert torch.equal(at_64_px(large), small)
    assert at_64_px(small) is small


def test_the_mask_of_a_large_image_is_that_of_its_box_mean() -> None:
    """Half red and half green pixels are a dark yellow at 64 px, below half of a white sprite's light."""
    images = torch.zeros(1, 3, 128, 128, dtype=torch.uint8)
    images[:, :, 20:60, 20:60] = 255
    images[:, 0, 80:100, 80:100:2] = 250
    images[:, 1, 80:100, 81:100:2] = 250
    expected = torch.zeros(1, 64, 64, dtype=torch.bool)
    expected[:, 10:30, 10:30] = True
    assert torch.equal(sprite_mask(at_64_px(images)), expected)
    prediction = prediction_of(factors_of(classes([700])))
    assert sprite_iou(images, prediction) == sprite_iou(at_64_px(images), prediction)
