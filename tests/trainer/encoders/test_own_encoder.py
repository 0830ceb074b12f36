"""An encoder of one's own: exported to a file, it is the q of stage 2, is kept, goes on and is measured."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common.errors import UserError
from tests.support.evaluating import answer, quickly
from tests.support.training import differences, finish, newest, train, train_system, two_at_a_time
from tests.trainer.test_bad_input import refused
from trainer.encoders import frozen, own_encoder

WORDS = "the frozen encoder of your own of this run (encoder.pt2)"


class Own(nn.Module):
    """Layers, buffers and modes that this package's own encoder has not."""

    def __init__(self, channels: int = 1, c_dim: int = 10) -> None:
        super().__init__()
        self.register_buffer("offset", torch.tensor(0.25))
        self.look = nn.Sequential(nn.Conv2d(channels, 4, 4, 4), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.5))
        self.tell = nn.Linear(4 * 16 * 16, 2 * c_dim)

    def forward(self, x: Tensor) -> Any:
        mean, logvar = self.tell(self.look(x - self.offset).flatten(1)).chunk(2, 1)
        return mean, logvar


def own(channels: int = 1, c_dim: int = 10, kind: type[Own] = Own) -> Own:
    """With weights and running statistics of its own."""
    torch.manual_seed(5)
    encoder = kind(channels, c_dim)
    for _ in range(3):
        encoder(torch.rand(8, channels, 64, 64))
    return encoder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "mine.pt2"
    own_encoder.export(own(), path, channels=1)
    return path


@pytest.fixture(scope="module")
def runs(exported: Path, sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """ID-GAN with s on it; cGAN on it, in float64. Started as for a user, with the estimate of memory."""
    root = tmp_path_factory.mktemp("runs")
    more = {"vae": exported, "estimate": True}
    starts = [
        partial(train_system, "idgan", sprites, root / "idgan", 4, s_dim=4, **more),
        partial(train_system, "cgan", sprites, root / "cgan", 4, precision="float64", **more),
    ]
    for running in two_at_a_time(starts):
        assert "memory: about " in finish(running).err
    return {"idgan": root / "idgan", "cgan": root / "cgan"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_file_gives_what_the_module_gives(batch: int, dtype: torch.dtype, exported: Path) -> None:
    module, loaded = own().eval().to(dtype), frozen.load(exported).encoder.to(dtype)
    x = torch.rand(batch, 1, 64, 64, dtype=dtype)
    for expected, found in zip(module(x), loaded(x), strict=True):
        assert found.dtype == dtype
        assert found.shape == (batch, 10)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-6)


def test_gradients_reach_the_image_and_stop_at_the_weights(exported: Path) -> None:
    """Against the module's own gradient; a copy that was told to train is the same frozen program."""
    module, loaded = own().eval(), copy.deepcopy(frozen.load(exported).encoder).train()
    x = torch.rand(3, 1, 64, 64)
    gradients = []
    for encoder in (module, loaded):
        image = x.clone().requires_grad_()
        mean, logvar = encoder(image)
        (mean.square().sum() + logvar.sum()).backward()
        gradients.append(image.grad)
    torch.testing.assert_close(gradients[1], gradients[0])
    assert gradients[0] is not None
    assert gradients[0].abs().sum() > 0
    assert not any(p.requires_grad for p in loaded.parameters())


def test_what_a_loaded_file_says_of_itself(exported: Path, tmp_path: Path) -> None:
    found = frozen.load(exported)
    assert (found.channels, found.c_dim, found.vae, found.name) == (1, 10, None, "encoder.pt2")
    own_encoder.export(own(channels=3, c_dim=7), tmp_path / "other.pt2", channels=3)
    other = frozen.load(tmp_path / "other.pt2")
    assert (other.channels, other.c_dim) == (3, 7)
    assert other.sha256 != found.sha256


def test_a_run_keeps_the_file_as_it_is(exported: Path, runs: dict[str, Path]) -> None:
    for run in runs.values():
        assert (run / "encoder.pt2").read_bytes() == exported.read_bytes()
        assert not (run / "vae.safetensors").exists()
    assert newest(runs["cgan"])["generator.layers.0.weight"].dtype == torch.float64


def test_a_run_goes_on_from_the_kept_file_when_the_original_is_gone(
    exported: Path, sprites: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    original, run = tmp_path / "mine.pt2", tmp_path / "run"
    shutil.copy(exported, original)
    finish(train("gan", sprites, run, 2, vae=original, s_dim=4))
    original.unlink()
    refused(train("gan", sprites, run, 4, vae=original, s_dim=4), original)
    finish(train("gan", sprites, run, 4, vae=run / "encoder.pt2", s_dim=4))
    assert not differences(newest(runs["idgan"]), newest(run))


def test_another_encoder_is_refused_on_resume(sprites: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    own_encoder.export(own(kind=Shifted), tmp_path / "other.pt2", channels=1)
    running = train("gan", sprites, runs["idgan"], 8, vae=tmp_path / "other.pt2", s_dim=4)
    refused(running, 'vae: was "', f"vae={runs['idgan'] / 'encoder.pt2'}")


class Shifted(Own):
    def forward(self, x: Tensor) -> Any:
        mean, logvar = super().forward(x)
        return mean + 1, logvar


@pytest.mark.parametrize("system", ["idgan", "cgan"])
def test_evaluation_measures_and_names_it(system: str, runs: dict[str, Path], tmp_path: Path) -> None:
    begin = partial(quickly, tmp_path)
    starts = [
        partial(begin, "disentanglement", runs[system], "--protocol", "short"),
        partial(begin, "alignment", runs[system], "--samples", 64),
        partial(begin, "fid", runs[system], "--samples", 64),
        partial(begin, "figures", runs[system]),
    ]
    metrics, alignment, fid, figures = (finish(running) for running in two_at_a_time(starts))
    for running in (metrics, alignment):
        assert answer(running)["encoder"] == WORDS
        assert WORDS in " ".join(running.out.split())
    assert list(answer(alignment)["kinds"]) == ["reals", "gan"]
    assert answer(fid)["codes"] == "posterior"
    assert answer(fid)["kinds"]["gan"]["fid"] > 0
    names = {Path(path).name for path in answer(figures)["files"]}
    pane = {"code_and_nuisance.png"} if system == "idgan" else set()
    common = {"reals.png", "samples.png", "traversals.png", "interpolation.webp", "figures.pdf"}
    assert names == common | pane


def test_an_encoder_decodes_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    running = quickly(tmp_path, "fid", runs["idgan"], "--samples", 64, "--of", "vae")
    refused(running, "--of vae", runs["idgan"], "no such images", "choose from gan")


class OneTensor(Own):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[0]


class Three(Own):
    def forward(self, x: Tensor) -> Any:
        return (*super().forward(x), x)


class Unequal(Own):
    def forward(self, x: Tensor) -> Any:
        mean, logvar = super().forward(x)
        return mean, logvar[:, :3]


class Maps(Own):
    def forward(self, x: Tensor) -> Any:
        return self.look(x), self.look(x)


class OneForAll(Own):
    def forward(self, x: Tensor) -> Any:
        mean, logvar = super().forward(x)
        return mean.mean(0, keepdim=True), logvar.mean(0, keepdim=True)


class Detached(Own):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.detach())


PAIR, GRADIENT = ("it must give (mean, logvar), each [2, c_dim]",), ("no gradient reaches the image", "take no_grad")
WRONG: list[tuple[type[Own], tuple[str, ...]]] = [
    *((kind, PAIR) for kind in (OneTensor, Three, Unequal, Maps, OneForAll)),
    (Detached, GRADIENT),
]


@pytest.mark.parametrize(("kind", "words"), WRONG)
def test_an_encoder_that_gives_anything_else_is_not_exported(
    kind: type[Own], words: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as found:
        own_encoder.export(own(kind=kind), tmp_path / "mine.pt2", channels=1)
    for word in (str(tmp_path / "mine.pt2"), *words):
        assert word in str(found.value)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("kind", "words"), WRONG)
def test_a_program_that_gives_anything_else_is_refused(
    kind: type[Own], words: tuple[str, ...], sprites: Path, tmp_path: Path
) -> None:
    """Written by torch.export itself, past trainer.own_encoder.export."""
    path = write(own(kind=kind), tmp_path / "mine.pt2")
    refused(train("gan", sprites, tmp_path / "run", 2, vae=path), path, *words)


def write(encoder: nn.Module, path: Path, size: int = 64, dynamic: bool = True) -> Path:
    """Any program as a file."""
    shapes: Any = ({0: torch.export.Dim.DYNAMIC},) if dynamic else None
    encoder.eval()
    torch.export.save(torch.export.export(encoder, (torch.zeros(2, 1, size, size),), dynamic_shapes=shapes), path)
    return path


class Small(nn.Module):
    """For images of 32 px."""

    def __init__(self) -> None:
        super().__init__()
        self.tell = nn.Linear(32 * 32, 20)

    def forward(self, x: Tensor) -> Any:
        mean, logvar = self.tell(x.flatten(1)).chunk(2, 1)
        return mean, logvar


@pytest.mark.parametrize(
    "make",
    [partial(write, own(), dynamic=False), partial(write, Small(), size=32)],
    ids=["for two images only", "for images of 32 px"],
)
def test_a_program_for_other_images_is_refused(make: Callable[[Path], Path], sprites: Path, tmp_path: Path) -> None:
    path = make(tmp_path / "mine.pt2")
    refused(train("gan", sprites, tmp_path / "run", 2, vae=path), path, "trainer.own_encoder.export")


@pytest.mark.parametrize("left", [0, 100, 60_000])
def test_a_truncated_file_is_refused(left: int, exported: Path, sprites: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.pt2"
    path.write_bytes(exported.read_bytes()[:left])
    running = train("gan", sprites, tmp_path / "run", 2, vae=path)
    refused(
        running, f"vae: {path}: not an exported encoder", "write it with trainer.own_encoder.export(encoder, path, chan"
    )
    assert running.err.count("error:") == 1


def test_files_that_are_no_exported_encoder_are_refused(sprites: Path, tmp_path: Path) -> None:
    missing, pickled = tmp_path / "missing.pt2", tmp_path / "pickled.pt2"
    torch.save(own().state_dict(), pickled)
    for path, words in ((missing, "no such file"), (pickled, "not an exported encoder")):
        refused(train("gan", sprites, tmp_path / "run", 2, vae=path), f"vae: {path}: {words}")


class Marker:
    """An object whose unpickling makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def pickled(marker: Path) -> bytes:
    stream = io.BytesIO()
    torch.save((Marker(marker),), stream)
    return stream.getvalue()


def in_a_weight(files: dict[str, bytes], marker: Path) -> dict[str, bytes]:
    config = "archive/data/weights/model_weights_config.json"
    weights = json.loads(files[config])
    first = next(iter(weights["config"].values()))
    first["use_pickle"] = True
    return {config: json.dumps(weights).encode(), f"archive/data/weights/{first['path_name']}": pickled(marker)}


def in_the_sample_inputs(files: dict[str, bytes], marker: Path) -> dict[str, bytes]:
    return {"archive/data/sample_inputs/model.pt": pickled(marker)}


def in_a_constant(files: dict[str, bytes], marker: Path) -> dict[str, bytes]:
    constant = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    return {
        "archive/data/constants/model_constants_config.json": json.dumps({"config": {"c": constant}}).encode(),
        "archive/data/constants/opaque_obj_0": pickle.dumps(Marker(marker)),
    }


@pytest.mark.parametrize("place", [in_a_weight, in_the_sample_inputs, in_a_constant])
def test_no_code_of_a_file_is_run(
    place: Callable[[dict[str, bytes], Path], dict[str, bytes]], exported: Path, sprites: Path, tmp_path: Path
) -> None:
    """The archive of torch.export may hold pickles, whose loading can do anything."""
    path, marker = tmp_path / "mine.pt2", tmp_path / "was here"
    with zipfile.ZipFile(exported) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (files | place(files, marker)).items():
            archive.writestr(name, content)
    running = train("gan", sprites, tmp_path / "run", 2, vae=path)
    running.wait()
    assert not marker.exists()
    refused(running, f"vae: {path}: not an exported encoder")


def test_a_name_without_pt2_is_refused(exported: Path, sprites: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine\.pth: the name of an exported encoder ends in \.pt2"):
        own_encoder.export(own(), tmp_path / "mine.pth", channels=1)
    assert not os.listdir(tmp_path)
    shutil.copy(exported, tmp_path / "mine.pth")
    refused(train("gan", sprites, tmp_path / "run", 2, vae=tmp_path / "mine.pth"), tmp_path / "mine.pth")


def test_a_code_and_channels_that_do_not_fit_are_listed_at_once(sprites: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.pt2"
    own_encoder.export(own(channels=3, c_dim=7), path, channels=3)
    refused(
        train("gan", sprites, tmp_path / "run", 2, vae=path),
        "2 problems",
        f"c_dim: the config has 10, the encoder of {path} has 7; set c_dim=7",
        f"vae: {path} sees 3 channels, the data 1",
    )
    finish(train("gan", sprites, tmp_path / "run", 2, vae=path, c_dim=7, data__variant="color"))


def test_a_run_keeps_one_encoder(exported: Path, vae: Path, sprites: Path, tmp_path: Path) -> None:
    """A start that got no further than its first file leaves nothing that a start with another kind would keep too."""
    run = tmp_path / "run"
    run.mkdir()
    frozen.load(vae).save(run)
    finish(train("gan", sprites, run, 2, vae=exported))
    assert [path.name for path in (run / "vae.safetensors", run / "encoder.pt2") if path.exists()] == ["encoder.pt2"]
    assert frozen.saved_path(run) == run / "encoder.pt2"
