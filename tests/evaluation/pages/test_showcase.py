"""The page of what exports make, without their runs and data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from evaluation.exports import pictures
from evaluation.inputs.images import to_uint8
from tests.support import processes
from tests.support.evaluating import answer, evaluate, refused, self_contained
from tests.support.training import finish
from trainer.export import exported_model
from trainer.pictures.walks import traversal_codes


@pytest.fixture(scope="module")
def exports(systems: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exports of a VAE, of an ID-GAN on it, and of a GAN without a code."""
    root = tmp_path_factory.mktemp("exports")
    for name in ("factor_vae", "idgan", "gan"):
        finish(processes.command("trainer", ["export", systems[name], root / name], root / "logs"))
    return {name: root / name for name in ("factor_vae", "idgan", "gan")}


def test_the_page_shows_every_model_and_needs_no_other_file(exports: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(exports["idgan"], tmp_path / "grown")
    page = Path(
        answer(evaluate(tmp_path, "showcase", *exports.values(), tmp_path / "grown", "--out", tmp_path))["page"]
    )
    text = page.read_text()
    assert self_contained(text)
    for name in (*exports, "grown"):
        assert f"<h2>{name}</h2>" in text
    assert "<h2>gan: what each latent moves</h2>" not in text
    assert text.count("The same codes, as the network grows") == 1
    assert text.count("0.00 million images in 0.0 hours on CPU") >= 4
    refused(evaluate(tmp_path, "showcase", tmp_path, code=2), "is no export")


def test_traversals_are_the_models_own_with_the_vae_above(exports: dict[str, Path]) -> None:
    model = exported_model.load(exports["idgan"])
    picture = pictures.traversals(model, 2)
    assert picture.size == (120 + 7 * 66 + 2, 4 * 68)
    assert model.bank is not None
    mean, logvar = model.bank
    kl = ((mean**2 + logvar.exp() - 1 - logvar) / 2).mean(0)
    along = traversal_codes(model.codes(1), int(kl.argmax()))[0]
    for row, images in ((0, model.decode(along)), (1, model.generate(model.nuisance(1).expand(7, -1), along))):
        third = picture.crop((120 + 2 * 66 + 2, row * 68 + 2, 120 + 3 * 66, row * 68 + 66))
        assert list(third.convert("L").getdata()) == to_uint8(images)[2].flatten().tolist()


def test_the_same_codes_are_enlarged_to_one_size(exports: dict[str, Path]) -> None:
    model = exported_model.load(exports["idgan"])
    picture = pictures.same_codes([model, model], 3)
    assert picture.size == (120 + 3 * 66 + 2, 3 * 68)
    own, again = (picture.crop((120, top, picture.width, top + 68)).tobytes() for top in (68, 136))
    assert own == again
    pixels = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    assert pictures._at(pixels, 8)[0, 0, :2, :2].tolist() == [[0, 0], [0, 0]]
    assert pictures._at(pixels, 2)[0, 0].tolist() == [[3, 5], [11, 13]]  # box means, half up


def test_samples_are_the_models_first_random_images(exports: dict[str, Path]) -> None:
    model = exported_model.load(exports["factor_vae"])
    picture = pictures.samples(model, 4, 2)
    assert picture.size == (2 * 66 + 2, 2 * 66 + 2)
    first = Image.Image.crop(picture, (2, 2, 66, 66)).convert("L")
    assert list(first.getdata()) == to_uint8(model.sample(1))[0].flatten().tolist()
