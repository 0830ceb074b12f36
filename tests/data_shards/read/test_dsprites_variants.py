"""Color, Noisy and Scream by their rules, as a pure function of (seed, epoch, sample)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from common.errors import UserError
from data_shards.read.dsprites_variants import Painting, draw, load_painting
from data_shards.read.variant_names import Variant
from data_shards.sources.sprites.renderer import render

IDS = torch.arange(512) * 1400 + 7
SPRITES = torch.from_numpy(render(IDS.numpy())).unsqueeze(1) * 255
PAINTING = load_painting(None)
NAMES: list[Variant] = ["color", "noisy", "scream"]


def drawn(variant: Variant, epoch: int = 0, seed: int = 0, rows: slice = slice(None)) -> Tensor:
    ids = IDS[rows]
    return draw(variant, SPRITES[rows], ids, torch.full_like(ids, epoch), seed, PAINTING)


@pytest.mark.parametrize("variant", NAMES)
def test_a_draw_depends_on_seed_epoch_and_sample_alone(variant: Variant) -> None:
    whole = drawn(variant)
    assert whole.shape == (512, 3, 64, 64)
    assert torch.equal(whole[100:130], drawn(variant, rows=slice(100, 130)))
    assert not torch.equal(whole, drawn(variant, epoch=1))
    assert not torch.equal(whole, drawn(variant, seed=1))


def test_plain_is_the_sprite_itself() -> None:
    assert draw("plain", SPRITES, IDS, IDS, 0) is SPRITES


def test_color_takes_eight_levels_per_channel_and_leaves_the_background() -> None:
    images = drawn("color")
    inside = SPRITES.expand(-1, 3, -1, -1) > 0
    assert int(images[~inside].max()) == 0
    colours = images.flatten(2).amax(2)
    assert torch.equal(images, torch.where(inside, colours[:, :, None, None], torch.zeros_like(images)))
    levels, counts = np.unique(colours.numpy(), return_counts=True)
    assert levels.tolist() == [round(255 * k / 7) for k in range(8)]
    assert stats.chisquare(counts).pvalue > 1e-3
    assert abs(np.corrcoef(colours.numpy().T.astype(float)) - np.eye(3)).max() < 0.15


def test_noisy_has_a_white_sprite_on_uniform_noise() -> None:
    images = drawn("noisy")
    inside = SPRITES.expand(-1, 3, -1, -1) > 0
    assert int(images[inside].min()) == 255
    noise = images[~inside].numpy()[::97] / 255
    assert stats.kstest(noise + np.random.default_rng(0).uniform(-0.5, 0.5, len(noise)) / 255, "uniform").pvalue > 1e-3


def test_scream_is_a_tinted_crop_with_an_inverted_sprite(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "painting.png"
    Image.fromarray(rng.integers(0, 256, (100, 120, 3), dtype=np.uint8)).save(path)
    painting = load_painting(path)
    assert painting.source == str(path)
    assert painting.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    images = draw("scream", SPRITES[:8], IDS[:8], torch.zeros(8, dtype=torch.int64), 0, painting).double() / 255
    blank = draw("scream", SPRITES[:8] * 0, IDS[:8], torch.zeros(8, dtype=torch.int64), 0, painting).double() / 255
    inside = (SPRITES[:8] > 0).expand(-1, 3, -1, -1)
    torch.testing.assert_close(images[~inside], blank[~inside])
    torch.testing.assert_close(images[inside], 1 - blank[inside], rtol=0, atol=1 / 255)
    pixels = painting.pixels.double()
    for image in blank:  # some crop explains each background up to one tint per channel in [0, 1]
        best = 1.0
        for y in range(100 - 64 + 1):
            for x in range(120 - 64 + 1):
                tint = 2 * image - pixels[:, y : y + 64, x : x + 64]
                spread = float((tint.amax((1, 2)) - tint.amin((1, 2))).max())
                if spread < best:
                    best, low, high = spread, float(tint.min()), float(tint.max())
        assert best < 0.02
        assert low > -0.01
        assert high < 1.01


def test_a_rotated_painting_is_drawn_as_it_lies_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    pixels = load_painting(tmp_path / "turned.png").pixels
    assert torch.equal((pixels * 255).round().byte(), torch.from_numpy(np.array(image)).permute(2, 0, 1))
    assert f"{tmp_path / 'turned.png'} is EXIF-rotated" in caplog.text


def test_a_large_painting_is_shrunk_to_fit_350_by_274(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (1400, 1400), (200, 100, 50)).save(path)
    assert load_painting(path).pixels.shape == (3, 274, 274)
    Image.new("RGB", (2000, 70)).save(path)
    with pytest.raises(UserError, match=r"data\.painting: .*less than 64 px on a side; use a larger one"):
        load_painting(path)


def test_without_a_painting_a_texture_is_drawn_and_named() -> None:
    assert PAINTING.source == "procedural"
    assert PAINTING.pixels.shape == (3, 274, 350)
    assert PAINTING.sha256 == load_painting(None).sha256
    assert float(PAINTING.pixels.std()) > 0.1


@pytest.mark.parametrize("variant", NAMES)
def test_above_64_px_noise_and_crop_live_on_the_64_px_grid(variant: Variant) -> None:
    """With an alpha that is constant over 4x4 boxes the large draw is the small one, enlarged."""
    large = SPRITES[:6].repeat_interleave(4, -1).repeat_interleave(4, -2)
    ids = IDS[:6]
    images = draw(variant, large, ids, torch.zeros_like(ids), 0, PAINTING)
    expected = drawn(variant, rows=slice(0, 6)).repeat_interleave(4, -1).repeat_interleave(4, -2)
    assert torch.equal(images, expected)
    soft = draw(variant, large // 2, ids, torch.zeros_like(ids), 0, PAINTING).int()
    back = draw(variant, large * 0, ids, torch.zeros_like(ids), 0, PAINTING).int()
    between = torch.minimum(images.int(), back) - 1, torch.maximum(images.int(), back) + 1
    assert bool(((soft >= between[0]) & (soft <= between[1])).all())


def test_the_painting_may_be_given_directly() -> None:
    flat = Painting(torch.full((3, 64, 64), 0.5), "flat", "-")
    images = draw("scream", SPRITES[:4], IDS[:4], torch.zeros(4, dtype=torch.int64), 0, flat)
    assert images.dtype == torch.uint8
