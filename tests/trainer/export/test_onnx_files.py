"""ONNX files of a model give, in ONNX Runtime and for any batch, what the model gives in torch."""

from __future__ import annotations

import os
import re
import shutil
from importlib import util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import trainer
from common.errors import UserError
from models import VAE, CodeEncoder, ConvGenerator
from tests.support import processes
from tests.support.exploring import untrained
from tests.support.training import finish, train
from trainer.encoders import own_encoder
from trainer.export import onnx_files, write
from trainer.export.exported_model import ExportMetadata, Model

FACES = Path("pretrained/faces-64-idgan")
FADING = {
    "network": "{name: resnet, nf: 2, nf_max: 8}",
    "growth": "{start_resolution: 16, phase_kimg: 0.048, fade_kimg: 0.064}",
    "bottleneck": "{}",
    "s_dim": 3,
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a shipped export, a ResNet with a VAE, with ONNX files."""
    out = tmp_path_factory.mktemp("faces") / "out"
    write.export(FACES, out, onnx=True)
    return out


def run(content: Path | bytes, **inputs: torch.Tensor) -> list[torch.Tensor]:
    """The results of an ONNX file, in their order."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return [torch.tensor(t) for t in session.run(None, {name: t.numpy() for name, t in inputs.items()})]


def close(found: torch.Tensor, wanted: torch.Tensor, most: float = 1e-4) -> None:
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) < most


def agrees(folder: Path) -> Model:
    """Expect that every file of an export gives what its model gives; images differ by half as much in [0, 1]."""
    model = trainer.load(folder)
    for count in (1, 2, 5):
        s, c = model.nuisance(count, seed=8), model.codes(count, seed=8)
        images = model.generate(s, c)
        if model.generator is not None:
            close(run(folder / "generator.onnx", s=s, c=c)[0], images, 5e-5)
        for found, wanted in zip(run(folder / "encoder.onnx", images=images), model.encode(images), strict=True):
            close(found, wanted)
        close(run(folder / "decoder.onnx", c=c)[0], model.decode(c), 5e-5)
    return model


def test_of_an_export_with_a_resnet(faces: Path) -> None:
    """Its layers that enlarge sum their weights from 32 px on, in another way than small ones."""
    model = agrees(faces)
    before = trainer.load(FACES)
    assert torch.equal(model.sample(2), before.sample(2))
    record = model.metadata.origin["onnx"]
    assert set(record["differences"]) == set(record["files"]) == {"generator.onnx", "encoder.onnx", "decoder.onnx"}
    assert max(record["differences"].values()) < 1e-4
    assert {path.name for path in FACES.iterdir()} == {path.name for path in faces.iterdir()} - set(record["files"])
    for name in record["files"]:
        assert os.getcwd().encode() not in (faces / name).read_bytes(), "a folder of the machine that exported it"


def test_the_code_of_the_card_draws_an_image(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (faces / "README.md").read_text()
    section = card.partition("## ONNX")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert "torch" not in code
    (tmp_path / "generator.onnx").symlink_to(faces / "generator.onnx")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    draw = np.random.default_rng(0).standard_normal
    s, c = (torch.tensor(draw((1, size), np.float32)) for size in (32, 20))
    monkeypatch.undo()
    wanted = trainer.load(faces).generate(s, c)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(np.array(Image.open(tmp_path / "image.png")) - wanted).max() < 0.51


def test_a_changed_file_is_found(faces: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(faces, tmp_path / "copy")
    content = bytearray((copy / "decoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "decoder.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"decoder\.onnx: is missing or damaged \(its sha256"):
        trainer.load(copy)


def test_of_a_run_in_a_fade(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """By the command; the encoder sees images of 32 px, which are enlarged."""
    finish(train("gan", sprites, tmp_path / "run", 5, vae=vae, **FADING))
    argv = ["export", tmp_path / "run", tmp_path / "out", "--onnx"]
    printed = finish(processes.command("trainer", argv, tmp_path / "logs"))
    assert "generator.onnx, encoder.onnx, decoder.onnx, as torch to " in printed.out
    assert printed.err.count("\n") < 3, "without the converter's own log"
    model = agrees(tmp_path / "out")
    assert model.metadata.alpha is not None
    assert model.metadata.resolution == 32
    assert model.metadata.origin["files"].keys() >= set(model.metadata.origin["onnx"]["files"])


def test_of_a_vae(vae: Path, tmp_path: Path) -> None:
    write.export(vae, tmp_path / "out", onnx=True)
    assert agrees(tmp_path / "out").generator is None
    assert 'InferenceSession("decoder.onnx")' in (tmp_path / "out/README.md").read_text()


class Mine(torch.nn.Module):
    """An encoder of one's own. With `exotic` it has an operation that ONNX does not have."""

    def __init__(self, exotic: bool) -> None:
        super().__init__()
        self.linear, self.exotic = torch.nn.Linear(64 * 64, 20), exotic

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.exotic:
            x = torch.linalg.matrix_exp(x / 64)
        mean, logvar = self.linear(x.flatten(1)).chunk(2, 1)
        return mean, logvar


def with_own_encoder(folder: Path, exotic: bool) -> Path:
    """An export with an encoder of one's own."""
    folder.mkdir()
    own_encoder.export(Mine(exotic), folder / "encoder.pt2", 1)
    metadata = ExportMetadata(
        "conv", {"z_dim": 10, "channels": 1}, 64, None, 1, 0, 10, "posterior", "own", {"files": {}}
    )
    (folder / "export.json").write_bytes(metadata.to_json())
    (folder / "generator.safetensors").write_bytes(write.safetensors(ConvGenerator(10, 1)))
    (folder / "bank.safetensors").write_bytes(write.save({"mean": torch.randn(5, 10), "logvar": torch.zeros(5, 10)}))
    for name in ("config.yaml", "README.md"):
        (folder / name).write_text("\n")
    return folder


def test_an_encoder_of_your_own_becomes_a_file_or_is_named(tmp_path: Path) -> None:
    """Where it cannot be converted, all else is written and can be used."""
    plain = with_own_encoder(tmp_path / "plain", False)
    write.export(plain, tmp_path / "plain-out", onnx=True)
    model, x = trainer.load(tmp_path / "plain-out"), torch.rand(3, 1, 64, 64)
    for found, wanted in zip(run(tmp_path / "plain-out/encoder.onnx", images=x), model.encode(x), strict=True):
        close(found, wanted)
    exotic, out = with_own_encoder(tmp_path / "exotic", True), tmp_path / "out"
    with pytest.raises(
        UserError, match=r"(?s)out: is written.*encoder\.onnx: encoder\.pt2 cannot be .*matrix_exp"
    ) as error:
        write.export(exotic, out, onnx=True)
    assert len(str(error.value)) < 400
    assert trainer.load(out).metadata.origin["onnx"]["files"] == ["generator.onnx"]
    assert not (out / "encoder.onnx").exists()
    c = model.codes(2)
    close(run(out / "generator.onnx", c=c)[0], trainer.load(out).generate(torch.zeros(2, 0), c), 5e-5)


def test_a_file_that_gives_something_else_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = ExportMetadata(None, None, 64, None, 1, 0, 4, "posterior", "vae", {})
    vae = VAE(1, 4)
    model = Model(metadata, None, CodeEncoder(vae.encoder), vae)
    convert = onnx_files._convert

    def of_another_network(part: onnx_files.OnnxPart, examples: list[torch.Tensor]) -> bytes:
        other = onnx_files._Decode(VAE(1, 4).decoder) if part.file == "decoder.onnx" else part.network
        torch.nn.init.constant_(list(other.parameters())[-1], 0.5)
        return convert(part._replace(network=other), examples)

    monkeypatch.setattr(onnx_files, "_convert", of_another_network)
    found = onnx_files.onnx_files(model)
    assert list(found.contents) == ["encoder.onnx"]
    (problem,) = found.problems
    assert re.search(
        r"decoder\.onnx: .*images of ONNX Runtime differ from torch's by 0\.\d+, more than 0\.0001", problem
    )


def test_what_cannot_be_done_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"faces-64-idgan: is an export already; .*--onnx"):
        write.export(FACES, out)
    with pytest.raises(UserError, match=r"--step: 7: .* is an export"):
        write.export(FACES, out, "7", onnx=True)
    real = util.find_spec
    absent = lambda name: None if name in ("onnx", "onnxscript") else real(name)  # noqa: E731
    monkeypatch.setattr(onnx_files, "find_spec", absent)
    with pytest.raises(UserError, match=r"--onnx: needs onnx and onnxscript; .*pip install .*\[onnx\]"):
        write.export(FACES, out, onnx=True)
    assert not out.exists()


def test_of_a_generator_with_labels() -> None:
    """y is an input of its own, between s and c."""
    model = untrained(64, skips=True, encoder="none", labelled=True)
    content = onnx_files.onnx_files(model).contents["generator.onnx"]
    s, c = model.nuisance(2, 3, classes="hair=long"), model.codes(2, 3)
    (images,) = run(content, s=s[:, :4], y=s[:, 4:], c=c)
    close(images, model.generate(s, c))


def test_of_a_generator_without_a_code_and_without_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes s alone. Nothing is compared, and that is said."""
    real = util.find_spec
    monkeypatch.setattr(onnx_files, "find_spec", lambda name: None if name == "onnxruntime" else real(name))
    metadata = ExportMetadata("conv", {"z_dim": 3, "channels": 1}, 64, None, 1, 3, 0, "none", "none", {})
    model = Model(metadata, ConvGenerator(3, 1), None, None)
    found = onnx_files.onnx_files(model)
    assert found.record() == {"opset": 18, "files": ["generator.onnx"]}
    assert onnx_files.summary(found.record()) == (
        "generator.onnx, not compared with torch: onnxruntime is not installed"
    )
    s = model.nuisance(2)
    close(run(found.contents["generator.onnx"], s=s)[0], model.generate(s, torch.zeros(2, 0)), 5e-5)
