"""Pictures of a model that was never trained: each part of them is an image that the model itself makes."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from evaluation.exports import pictures
from models import VAE, CodeEncoder, ConvGenerator, freeze
from trainer.export.exported_model import ExportMetadata, Model
from trainer.pictures.image_grids import to_uint8
from trainer.pictures.walks import traversal_codes

CELL, LABEL = 66, 120  # px of an image of 64 px with its margin; of the labels


@pytest.fixture(scope="module")
def model() -> Model:
    """An ID-GAN with a bank, in which the third latent carries most and the first one nothing."""
    torch.manual_seed(0)
    vae, arguments = VAE(1, 3, "default"), {"z_dim": 5, "channels": 1}
    generator = freeze(ConvGenerator(**arguments))
    metadata = ExportMetadata("conv", arguments, 64, None, 1, 2, 3, "posterior", "vae", {})
    model = Model(metadata, generator, CodeEncoder(vae.encoder), freeze(vae))
    logvar = torch.tensor([0.0, -1.0, -5.0]).expand(40, 3)
    model.bank = torch.randn(40, 3) * torch.tensor([0.0, 0.8, 1.0]), logvar
    return model


def image_in(picture: Image.Image, row: int, column: int) -> list[int]:
    """The pixels of an image of a labelled picture, whose rows are grids of their own."""
    left, top = LABEL + 2 + column * CELL, row * (CELL + 2) + 2
    return list(picture.crop((left, top, left + 64, top + 64)).convert("L").getdata())


def test_traversals_go_along_what_carries_most_with_the_vae_above(model: Model) -> None:
    picture = pictures.traversals(model, 2)
    assert picture.size == (LABEL + 7 * CELL + 2, 4 * (CELL + 2))
    for pair, latent in enumerate((2, 1)):
        along = traversal_codes(model.codes(1), latent)[0]
        made = to_uint8(model.generate(model.nuisance(1).expand(7, -1), along))
        for row, images in ((2 * pair, to_uint8(model.decode(along))), (2 * pair + 1, made)):
            assert image_in(picture, row, 3) == images[3].flatten().tolist()


def test_without_a_bank_latents_stand_in_their_own_order(model: Model) -> None:
    bare = Model(model.metadata, model.generator, model.encoder, None)
    picture = pictures.traversals(bare, 3)
    assert picture.size == (LABEL + 7 * CELL + 2, 3 * (CELL + 2))
    along = traversal_codes(bare.codes(1), 0)[0]
    made = to_uint8(bare.generate(bare.nuisance(1).expand(7, -1), along))
    assert image_in(picture, 0, 6) == made[6].flatten().tolist()


def test_the_same_codes_are_drawn_by_each_model_below_the_vae(model: Model) -> None:
    picture = pictures.same_codes([model, model], 3)
    assert picture.size == (LABEL + 3 * CELL + 2, 3 * (CELL + 2))
    c, s = model.codes(3), model.nuisance(3)
    for row, images in ((0, model.decode(c)), (1, model.generate(s, c)), (2, model.generate(s, c))):
        assert image_in(picture, row, 1) == to_uint8(images)[1].flatten().tolist()


def test_small_images_are_enlarged_and_large_ones_averaged() -> None:
    pixels = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    assert pictures._at(pixels, 8)[0, 0, :2, :4].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert pictures._at(pixels, 2)[0, 0].tolist() == [[3, 5], [11, 13]]  # box means, half up


def test_samples_are_the_models_first_random_images(model: Model) -> None:
    picture, images = pictures.samples(model, 4, 2), to_uint8(model.sample(4))
    assert picture.size == (2 * CELL + 2, 2 * CELL + 2)
    first = picture.crop((2, 2, 66, 66)).convert("L")
    assert list(first.getdata()) == images[0].flatten().tolist()
    assert torch.equal(pictures.whole(model, 2), images[:2])
