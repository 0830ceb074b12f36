"""Previews, requests that are given up, sliders without an encoder, and pictures of other sizes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import trainer
from common.errors import UserError
from models import Generator
from tests.support.exploring import untrained
from trainer.apps.explore.fit import fit
from trainer.apps.explore.latest import Latest, Overtaken
from trainer.apps.explore.renderer import Renderer, preview_resolution
from trainer.apps.explore.sliders import sliders_of
from trainer.apps.explore.uploads import Pictures, read_picture

from .conftest import FACES

CPU, HERE = torch.device("cpu"), Path(FACES)


def pixels(png: bytes) -> Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png)))).permute(2, 0, 1)[None]


def never() -> None:
    pass


def test_the_preview_of_a_large_image_is_what_g_has_at_128_px() -> None:
    model = untrained(512, skips=True)
    renderer = Renderer(model, HERE, CPU)
    s, c = renderer.latents.of(1)
    with torch.no_grad():
        assert isinstance(model.generator, Generator)
        expected = ((model.generator(torch.cat((s, c), 1), 128) + 1) / 2 * 255).round().byte()
    assert torch.equal(pixels(renderer.preview(s, c, never)), expected)
    assert pixels(renderer.image(s, c, never)).shape == (1, 3, 512, 512)


def test_only_large_images_whose_parts_add_up_have_a_preview() -> None:
    assert preview_resolution(untrained(512, skips=True)) == 128
    assert preview_resolution(untrained(512, skips=False)) is None
    assert preview_resolution(untrained(256, skips=True)) is None
    assert preview_resolution(trainer.load(FACES)) is None, "1024 px is what it may grow to; it has 64"


def test_an_image_that_is_overtaken_ends_between_two_layers() -> None:
    renderer, latest = Renderer(trainer.load(FACES), HERE, CPU), Latest()
    s, c = renderer.latents.of(1)
    whole, wanted, layers = renderer.image(s, c, never), latest.register("page", 1), []

    def check() -> None:
        layers.append(1)
        if len(layers) == 10:
            latest.register("page", 2)
        wanted()

    with pytest.raises(Overtaken):
        renderer.image(s, c, check)
    assert len(layers) == 10
    assert renderer.image(s, c, latest.register("page", 3)) == whole
    latest.close()
    with pytest.raises(Overtaken):
        renderer.image(s, c, latest.register("page", 4))


def test_sliders_stand_in_the_order_of_the_kl() -> None:
    """Against the closed form in double precision, by hand."""
    model = trainer.load(FACES)
    assert model.bank is not None
    mean, logvar = (t.double().numpy() for t in model.bank)
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).mean(0)
    found = sliders_of(model)
    assert [slider.place for slider in found.sliders] == list(np.argsort(-kl))
    assert [slider.latent for slider in found.sliders] == [f"c{j + 1}" for j in np.argsort(-kl)]
    assert [slider.kl for slider in found.sliders] == pytest.approx(np.sort(kl)[::-1], rel=1e-4)
    assert [slider.is_collapsed for slider in found.sliders] == list(np.sort(kl)[::-1] < 0.01)
    assert found.limit - 1 < np.abs(mean).max() <= found.limit


def test_without_an_encoder_or_codes_of_images_sliders_say_so() -> None:
    gan = sliders_of(untrained(64, True, c_dim=0, encoder="none"))
    assert [slider.latent for slider in gan.sliders] == ["s1", "s2", "s3", "s4"]
    assert "without a code" in gan.order
    alone = sliders_of(untrained(64, True, encoder="none"))
    assert ([slider.latent for slider in alone.sliders], alone.sliders[0].kl) == (["c1", "c2", "c3"], None)
    assert "no encoder" in alone.order
    for encoder, words in (("vae", "256 decodings"), ("joint", "256 images of its own")):
        measured = sliders_of(untrained(64, True, encoder=encoder))  # type: ignore[arg-type]
        assert words in measured.order
        kl = [slider.kl or 0 for slider in measured.sliders]
        assert kl == sorted(kl, reverse=True)
    assert sliders_of(untrained(128, True, encoder="joint")).sliders[0].kl is None


def test_a_fit_of_s_alone_needs_an_s() -> None:
    model = trainer.load("pretrained/dsprites-idgan")
    with pytest.raises(UserError, match="fit c"):
        next(fit(model, torch.zeros(1, 1, 64, 64, dtype=torch.uint8), torch.zeros(1, 0), torch.zeros(1, 10), False))


def test_a_fit_leaves_the_label_vector_as_it_is() -> None:
    model = untrained(64, True, labelled=True)
    s, c = model.nuisance(1, classes="hair=long,beard=chin"), model.codes(1)
    picture = (model.sample(1, seed=5) * 255).round().byte()
    *_, last = fit(model, picture, s, c, with_c=True)
    assert last.s[:, 4:].tolist() == [[0, 1, 0, 0, 1]]
    assert not torch.equal(last.s[:, :4], s[:, :4])


def test_a_fit_of_a_large_image_is_made_at_the_previews_resolution() -> None:
    model = untrained(512, skips=True)
    picture = torch.randint(0, 256, (1, 3, 512, 512), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    s, c = torch.zeros(1, 4), torch.zeros(1, 3)
    first = next(fit(model, picture, s, c, False))
    small = torch.nn.functional.avg_pool2d(picture.float(), 4) / 255
    with torch.no_grad():
        assert first.error == pytest.approx((model.draw(s, c, 128) - small).square().mean().sqrt().item(), abs=2e-3)


def png_of(image: Image.Image, kind: str = "PNG", **more: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **more)
    return stream.getvalue()


def halves(width: int, height: int) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    return image


def test_a_picture_of_another_size_is_cropped_to_its_centre_and_resized() -> None:
    picture = read_picture(png_of(halves(300, 200)), None, 64, 3)
    array = picture.pixels[0]
    assert array.shape == (3, 64, 64)
    assert (array[:, :, :24] == torch.tensor([255, 0, 0])[:, None, None]).all()
    assert (array[:, :, 40:] == torch.tensor([0, 0, 255])[:, None, None]).all()
    assert picture.remark == "300 x 200 px: its centre square, at 64 px"
    assert read_picture(png_of(halves(20, 30)), None, 64, 3).pixels.shape == (1, 3, 64, 64)


def test_a_picture_of_the_size_that_a_set_has_is_cropped_as_it_is_there() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    data, box = png_of(Image.fromarray(noise)), noise[29:189, 9:169]
    expected = np.asarray(Image.fromarray(box).resize((64, 64), Image.Resampling.LANCZOS))
    celeba = read_picture(data, "celeba", 64, 3)
    assert np.array_equal(celeba.pixels[0].permute(1, 2, 0), expected)
    assert "as in celeba" in celeba.remark
    assert not torch.equal(celeba.pixels, read_picture(data, "faces", 64, 3).pixels)


def test_grey_models_see_grey_and_turned_photos_are_turned() -> None:
    assert read_picture(png_of(halves(64, 64)), None, 64, 1).pixels.unique().tolist() == [29, 76]
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = read_picture(png_of(halves(64, 64), exif=exif), None, 64, 3).pixels[0, :, 0, 0]
    assert turned.tolist() == [0, 0, 255]


def test_what_no_data_set_may_hold_is_refused() -> None:
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    with pytest.raises(UserError, match="transparent pixels; flatten"):
        read_picture(png_of(clear), None, 64, 3)
    with pytest.raises(UserError, match="damaged"):
        read_picture(png_of(halves(64, 64))[:-40], None, 64, 3)
    with pytest.raises(UserError, match="animated"):
        read_picture(png_of(halves(9, 9), "GIF", save_all=True, append_images=[clear]), None, 64, 3)


def test_old_pictures_are_forgotten() -> None:
    pictures, picture = Pictures(), read_picture(png_of(halves(64, 64)), None, 64, 3)
    keys = [pictures.keep(picture) for _ in range(9)]
    assert pictures.of(keys[8]) is pictures.of(keys[1]) is picture
    with pytest.raises(UserError, match="upload it again"):
        pictures.of(keys[0])
