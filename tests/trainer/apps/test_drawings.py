"""Walks and traversals show the images of their seeds: every video is read back by another reader than its writer."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

import trainer
from common.errors import UserError
from models import ConvGenerator, freeze
from tests.support import processes
from tests.support.training import finish
from trainer.apps.drawings import FRAMES_A_SECOND, SWING, WALK, _frame, _grid, choose
from trainer.export.exported_model import ExportMetadata, Model
from trainer.pictures.image_grids import picture_of, save

FACES, SPRITES = "pretrained/faces-64-idgan", "pretrained/dsprites-idgan"


def generate(model: str, out: Path, *more: str) -> str:
    running = processes.command("trainer", ["generate", model, "--out", out, *more], out.parent / "logs")
    return finish(running).out


def seed_image(out: Path, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    """In RGB, enlarged to 256 px."""
    picture = Image.open(out / f"seed{seed:06d}.png").convert("RGB")
    return np.array(picture.resize((256, 256), Image.Resampling.NEAREST)).astype(int)


def test_a_walk_as_mp4_passes_through_the_seeds(tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = generate(SPRITES, out, "--seeds", "3,9", "--video", "mp4")
    assert printed == f"wrote 2 images, interpolation.mp4 to {out}\n"
    with av.open(str(out / "interpolation.mp4")) as file:
        (stream,) = file.streams.video
        assert (stream.codec_context.name, stream.average_rate) == ("h264", FRAMES_A_SECOND)
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in file.decode(stream)]
    assert [frame.shape for frame in frames] == [(256, 256, 3)] * (2 * WALK)
    for place, seed in enumerate((3, 9)):
        assert np.abs(frames[place * WALK] - seed_image(out, seed)).mean() < 2
    assert np.abs(frames[0] - frames[WALK]).mean() > 5


def test_a_walk_as_webp_has_the_images_of_the_seeds_and_never_ends(tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(SPRITES, out, "--seeds", "3,9", "--video", "webp", "--psi", "0.9")
    with Image.open(out / "interpolation.webp") as video:
        assert (video.n_frames, video.size, video.info["loop"]) == (2 * WALK, (256, 256), 0)  # type: ignore[attr-defined]
        for place, seed in enumerate((3, 9)):
            video.seek(place * WALK)
            assert np.abs(np.array(video.convert("RGB")).astype(int) - seed_image(out, seed)).max() <= 1


def test_a_traversal_as_a_picture_and_a_video(tmp_path: Path) -> None:
    """From one seed, of which no walk is made. Each latent swings at its own place in the video."""
    out = tmp_path / "out"
    printed = generate(FACES, out, "--seeds", "3", "--traverse", "c3,c4", "--video", "mp4")
    assert printed == f"wrote 1 image, traversals.png, traversals.mp4 to {out}\n"
    model = trainer.load(FACES)
    sheet = Image.open(out / "traversals.png")
    assert sheet.size == (120 + 7 * 66 + 2, 4 * 68)  # two latents, the VAE's decodings above each
    s, c = (draw(torch.tensor([3])) for draw in (model.nuisance, model.codes))
    c[0, 3] = -3.0  # c4, in the second pair of rows
    lowest = (model.generate(s, c)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(np.array(sheet.crop((122, 3 * 68 + 2, 186, 3 * 68 + 66))), lowest)
    decoded = (model.decode(c)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(np.array(sheet.crop((122, 2 * 68 + 2, 186, 2 * 68 + 66))), decoded)
    with av.open(str(out / "traversals.mp4")) as file:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in file.decode(video=0)]
    assert len(frames) == SWING
    top = 26 + 2  # the titles and a margin
    cell = frames[SWING * 3 // 4][top : top + 256, 2 + 258 : 2 + 258 + 256]
    enlarged = lowest.repeat(4, 0).repeat(4, 1).astype(int)
    assert np.abs(cell - enlarged).mean() < 3
    assert np.abs(frames[SWING // 4][top : top + 256, 2 + 258 : 2 + 258 + 256] - enlarged).mean() > 6


def test_large_images_are_shrunk_in_a_grid_and_a_webp_and_whole_in_an_mp4(tmp_path: Path) -> None:
    large = torch.randint(256, (1, 3, 512, 512), dtype=torch.uint8)
    means = large.float().unflatten(3, (256, 2)).unflatten(2, (256, 2)).mean((3, 5)).add(0.5).floor().byte()
    assert torch.equal(_frame("mp4", large), large)
    assert torch.equal(_frame("webp", large), means)
    assert torch.equal(
        _frame("webp", large[..., :64, :64]), large[..., :64, :64].repeat_interleave(4, 2).repeat_interleave(4, 3)
    )
    save(picture_of(large[0]), tmp_path / "seed000000.png")
    cell = np.array(_grid([tmp_path / "seed000000.png"], (1, 2)))[2:258, 2:258]
    assert np.array_equal(cell, means[0].permute(1, 2, 0).numpy())


def test_all_latents_stand_by_their_kl() -> None:
    model = trainer.load(FACES)
    assert model.bank is not None
    mean, logvar = (t.double() for t in model.bank)
    kl = (0.5 * (mean**2 + logvar.exp() - logvar - 1)).mean(0)
    assert [latent for latent, _ in choose(model, "all")] == kl.argsort(descending=True).tolist()
    assert choose(model, "c20, c1") == [next(x for x in choose(model, "all") if x[0] == j) for j in (19, 0)]
    assert choose(model, None) == []


def test_latents_that_cannot_be_traversed_are_refused() -> None:
    arguments = {"z_dim": 100, "channels": 1}
    metadata = ExportMetadata("conv", arguments, 64, None, 1, 100, 0, "none", "none", {})
    model = Model(metadata, freeze(ConvGenerator(**arguments)), None, None)
    for names, words in (
        ("all", "--traverse: all: 100 latents are too many; name at most 64"),
        ("s1,s1", "--traverse: s1,s1: has a latent twice"),
        ("s101,x", "--traverse: 's101', 'x' is no latent of this model; it has s1 to s100"),
    ):
        with pytest.raises(UserError, match=words):
            choose(model, names)
