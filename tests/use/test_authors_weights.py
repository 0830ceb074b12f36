"""Weights that were trained with the authors' public code: imported, sampled, measured, trained on; and what does not
fit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer
from common.errors import UserError
from tests.reference import public_code as reference
from tests.support import processes
from tests.support import public_code as files
from tests.support.training import finish, train
from trainer.encoders import frozen

TINY = ("network.nf=2", "network.nf_max=8", "s_dim=3", "c_dim=4")


class Code:
    """A pickle that runs code where it is loaded as a whole."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("run-by-pickle"),))


def import_weights(folder: Path, *argv: object) -> processes.Running:
    """Start `python -m trainer import ARGV` in a folder."""
    folder.mkdir(exist_ok=True)
    args = (str(folder), "trainer", ["import", *map(str, argv)])
    return processes.start(processes.module_in, args, folder / "logs")


def refused(running: processes.Running, *words: object) -> None:
    finish(running, 2)
    for word in words:
        assert str(word) in running.err, running.err
    assert "Traceback" not in running.err


def sprites_model(folder: Path) -> tuple[Path, Path, dict[str, files.State], files.State]:
    """model.pt and chkpts/last of dSprites' networks, and what they hold."""
    networks = {
        "generator": files.conv_generator(10, 1, 1),
        "discriminator": files.conv_discriminator(1, 2),
        "generator_test": files.conv_generator(10, 1, 3),
    }
    vae = files.vae(10, 1, 4)
    model = files.stage_2(folder / "idgan/chkpts/model.pt", networks, 299_999)
    return model, files.stage_1(folder / "dvae/chkpts/last", vae, 500_000), networks, vae


def test_a_model_of_celeba_draws_the_images_of_the_public_code(tmp_path: Path) -> None:
    """From the average, not the generator; without its VAE, for codes from the prior; the config by its name."""
    model = files.resnet_model(tmp_path / "model.pt", 256, 2, 8, 7)
    done = finish(import_weights(tmp_path, model, "--as", "celeba/256", *TINY))
    assert done.out == (
        "wrote exports/celeba-256: 256 px, 300,000 iterations; open it with trainer.load('exports/celeba-256')\n"
    )
    opened = trainer.load(tmp_path / "exports/celeba-256")
    s, c = torch.randn(2, 3), torch.randn(2, 4)
    state = files.resnet_generator(256, 2, 8, 7, 3)
    expected = (reference.resnet_generator(state, torch.cat((s, c), 1)) + 1) / 2
    torch.testing.assert_close(opened.generate(s, c), expected, rtol=0, atol=1e-5)
    assert opened.sample(2).shape == (2, 3, 256, 256)
    with pytest.raises(UserError, match="a GAN that was imported without its VAE"):
        frozen.load(tmp_path / "exports/celeba-256")
    card = (tmp_path / "exports/celeba-256/README.md").read_text()
    assert "300,000 iterations; 7,200,000 at the config's batch_size" in card
    assert "generator_test" in card
    assert "under the licence of this project" not in card
    refused(import_weights(tmp_path, model, "--as", "celeba/256", *TINY), "exports/celeba-256: is there already")


def test_a_model_of_sprites_with_its_vae_is_measured_and_trained_on(sprites: Path, tmp_path: Path) -> None:
    """Codes, decodings, evaluation on a set of the user's, `vae=` and `init_from`."""
    model, last, networks, vae = sprites_model(tmp_path)
    out = tmp_path / "out"
    finish(import_weights(tmp_path, model, "--as", "dsprites/idgan", "--vae", last, "--out", out))
    opened, c, x = trainer.load(out), torch.randn(3, 10), torch.rand(3, 1, 64, 64)
    expected = (reference.conv_generator(networks["generator_test"], c).tanh() + 1) / 2
    torch.testing.assert_close(opened.generate(torch.empty(3, 0), c), expected, rtol=0, atol=1e-5)
    decoded = reference.conv_generator(vae, c, "decoder.").sigmoid()
    torch.testing.assert_close(opened.decode(c), decoded, rtol=0, atol=1e-5)
    encoded = reference.conv_discriminator(vae, x, "encoder.").chunk(2, 1)
    torch.testing.assert_close(opened.encode(x), tuple(encoded), rtol=1e-4, atol=1e-5)
    measured = processes.command(
        "evaluation", ["alignment", out, "--samples", 48, "--data", sprites], tmp_path / "logs"
    )
    record = json.loads(finish(measured).out.splitlines()[-1])
    assert record["iteration"] == 300_000
    assert "which images it was trained on is not recorded" in measured.err
    trained = finish(train("gan", sprites, tmp_path / "run", 1, vae=out, init_from=out))
    assert f"init_from: {out}: 12 of 24 tensors of the networks are taken" in trained.err
    assert json.loads((out / "export.json").read_bytes())["origin"]["imported"]["file"] == str(model)


def test_with_its_data_the_codes_are_of_its_images(sprites: Path, tmp_path: Path) -> None:
    """As those of the export of a run are; and the evaluation knows the set again."""
    model, last, *_ = sprites_model(tmp_path)
    argv = (model, "--as", "dsprites/idgan", "--vae", last, "--data", sprites)
    finish(import_weights(tmp_path, *argv))
    opened = trainer.load(tmp_path / "exports/dsprites-idgan")
    assert opened.metadata.codes == "posterior"
    assert opened.bank is not None
    assert opened.bank[0].shape == (256, 10)
    measured = ("alignment", tmp_path / "exports/dsprites-idgan", "--samples", 48)
    assert "warning" not in finish(processes.command("evaluation", measured, tmp_path / "logs")).err
    coloured = import_weights(tmp_path, *argv, "data.variant=color", "--out", tmp_path / "other")
    refused(coloured, f"--data: {sprites} has 3 channels, {model} is of 1")


def test_a_vae_alone(sprites: Path, tmp_path: Path) -> None:
    _, last, _, vae = sprites_model(tmp_path)
    finish(import_weights(tmp_path, last, "--as", "dsprites/beta_vae"))
    out = tmp_path / "exports/dsprites-beta_vae"
    opened, c = trainer.load(out), torch.randn(2, 10)
    decoded = reference.conv_generator(vae, c, "decoder.").sigmoid()
    torch.testing.assert_close(opened.decode(c), decoded, rtol=0, atol=1e-5)
    assert opened.sample(2).shape == (2, 1, 64, 64)
    finish(train("gan", sprites, tmp_path / "run", 1, vae=out))


def test_a_file_without_average_and_prefix(tmp_path: Path) -> None:
    """Saved by `take_model_average: false`, and of networks that were not in DataParallel: G itself is taken."""
    _, _, networks, _ = sprites_model(tmp_path)
    content = {"it": 9, "generator": networks["generator"]}
    torch.save(content, tmp_path / "model.pt")
    finish(import_weights(tmp_path, tmp_path / "model.pt", "--as", "dsprites/idgan"))
    opened, c = trainer.load(tmp_path / "exports/dsprites-idgan"), torch.randn(2, 10)
    expected = (reference.conv_generator(networks["generator"], c).tanh() + 1) / 2
    torch.testing.assert_close(opened.generate(torch.empty(2, 0), c), expected, rtol=0, atol=1e-5)
    assert opened.metadata.origin["iteration"] == 10
    assert "ema" not in opened.metadata.origin


def test_a_bottleneck_is_that_of_branch_vgan(tmp_path: Path) -> None:
    model = files.resnet_model(tmp_path / "model.pt", 64, 2, 8, 7, bottleneck=True)
    refused(
        import_weights(tmp_path, model, "--as", "celeba/64", *TINY),
        f"{model} does not fit",
        "discriminator: mean_fn.weight: the config's network has none; it is 8 x 8 x 1 x 1",
        "bottleneck={}",
    )
    finish(import_weights(tmp_path, model, "--as", "celeba/64", *TINY, "bottleneck={}"))


def test_what_does_not_fit_is_listed_at_once(tmp_path: Path) -> None:
    """Names and shapes of G, its average, D and the VAE, each with its name in the file; nothing is written."""
    model = files.resnet_model(tmp_path / "model.pt", 64, 2, 8, 7)
    last = files.stage_1(tmp_path / "last", files.vae(5, 3, 4), 10)
    settings = ("network.nf=2", "network.nf_max=8", "s_dim=4", "c_dim=4")
    refused(
        import_weights(tmp_path, model, "--as", "celeba/64", "--vae", last, *settings),
        "generator: fc.weight: is 128 x 7, in the config's network 128 x 8",
        "generator_test: fc.weight: is 128 x 7, in the config's network 128 x 8",
        "the VAE: encoder.layer.11.weight: is 10 x 256, in the config's network 8 x 256",
        "the VAE: decoder.layer.0.weight: is 256 x 5, in the config's network 256 x 4",
        "s_dim=128",
    )
    refused(
        import_weights(tmp_path, model, "--as", "celeba/128", *TINY, "network.generator_nf=2"),
        "generator: resnet.10.conv_0.weight: is not there",
    )
    refused(import_weights(tmp_path, model, "--as", "dsprites/idgan"), "generator: layer.0.weight: is not there")
    assert not (tmp_path / "exports").exists()


def test_files_that_are_something_else(tmp_path: Path) -> None:
    model, last, _, _ = sprites_model(tmp_path)
    as_ = ("--as", "dsprites/idgan")
    refused(import_weights(tmp_path, tmp_path / "none.pt", *as_), "none.pt: no such file")
    refused(import_weights(tmp_path, model.parent, *as_), f"{model.parent}: is a folder; name the file in it")
    (tmp_path / "text.pt").write_text("text")
    refused(import_weights(tmp_path, tmp_path / "text.pt", *as_), "text.pt: ")
    (tmp_path / "short.pt").write_bytes(model.read_bytes()[:5000])
    refused(import_weights(tmp_path, tmp_path / "short.pt", *as_), "short.pt: is no file of torch.save, or damaged")
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "other.pt")
    refused(import_weights(tmp_path, tmp_path / "other.pt", *as_), "other.pt: is no checkpoint", "state_dict, epoch")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    refused(import_weights(tmp_path, tmp_path / "tensor.pt", *as_), "tensor.pt: holds a Tensor")
    refused(import_weights(tmp_path, last, *as_), "is a config of stage 2", "name one of stage 1")
    refused(import_weights(tmp_path, model, "--as", "dsprites/beta_vae"), "is a config of stage 1")
    refused(import_weights(tmp_path, model, *as_, "--vae", model), f"--vae: {model}: is of stage 2")
    refused(
        import_weights(tmp_path, model, "--as", "dsprites/infogan"), "InfoGAN, which the public code does not train"
    )
    refused(import_weights(tmp_path, model, "--as", "dsprites/none"), "dsprites/none: no such config")


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    _, _, networks, _ = sprites_model(tmp_path)
    model = files.stage_2(tmp_path / "evil.pt", networks, 3, stats=Code())
    refused(import_weights(tmp_path, model, "--as", "dsprites/idgan"), "evil.pt: holds more than tensors and numbers")
    assert not (tmp_path / "run-by-pickle").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float, tmp_path: Path) -> None:
    _, _, networks, _ = sprites_model(tmp_path)
    networks["generator_test"]["layer.0.bias"][3] = value
    model = files.stage_2(tmp_path / "diverged.pt", networks, 3)
    refused(
        import_weights(tmp_path, model, "--as", "dsprites/idgan"),
        "generator_test: layer.0.bias: holds values that are not finite",
    )
