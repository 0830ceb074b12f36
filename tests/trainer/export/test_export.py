"""An export is all that its model needs: it samples what the run samples, and has neither run, data nor pickle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer
from common.errors import UserError
from common.random_numbers import Purpose, normal
from evaluation.inputs import images
from evaluation.inputs.run import open_run
from models import CodeEncoder, sample_posterior
from tests.support import processes
from tests.support.training import BATCH, finish, tensors, train, train_system
from trainer.checkpoints import published
from trainer.encoders import own_encoder
from trainer.export import run_networks, write

GROWN = {
    "network": "{name: resnet, nf: 2, nf_max: 8}",
    "growth": "{start_resolution: 16, phase_kimg: 0.048, fade_kimg: 0.064}",
    "bottleneck": "{}",
    "s_dim": 3,
}


def export(run: Path, out: Path, *more: str) -> processes.Running:
    return processes.command("trainer", ["export", run, out, *more], out.parent / "logs")


@pytest.fixture(scope="module")
def idgan(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in a fade into 32 px."""
    run = tmp_path_factory.mktemp("idgan") / "run"
    finish(train("gan", sprites, run, 5, vae=vae, **GROWN))
    return run


def test_a_model_makes_the_images_of_its_run(idgan: Path, tmp_path: Path) -> None:
    """Generator, codes of the bank and the VAE, each against the evaluation's own reading of the run."""
    printed = finish(export(idgan, tmp_path / "out")).out
    assert "wrote" in printed
    model, run = trainer.load(tmp_path / "out"), open_run(idgan)
    assert (model.metadata.resolution, model.metadata.alpha) == (32, run.manifest["alpha"])
    at = torch.arange(5)
    s, c = images.nuisance(run, 7, at), normal(7, Purpose.EVAL_CODE, at, (run.c_dim,))
    assert torch.equal(model.nuisance(5, seed=7), s)
    assert run.generator is not None
    found = model.generate(s, c)
    assert found.shape == (5, 1, 32, 32)
    enlarged = torch.nn.functional.interpolate(found, (64, 64), mode="bilinear")
    torch.testing.assert_close(enlarged, (run.generator(torch.cat((s, c), 1)) + 1) / 2)
    assert run.vae is not None
    assert torch.equal(model.decode(c), run.vae.decode(c))
    reals = run.data.at(torch.arange(run.data.main.count), run.data.seed)
    mean, logvar = run.require_encoder()(reals.float() / 127.5 - 1)
    assert model.bank is not None
    torch.testing.assert_close(model.bank, (mean, logvar))
    torch.testing.assert_close(model.encode(reals.float() / 255), (mean, logvar), rtol=1e-4, atol=1e-5)


def test_codes_are_samples_of_the_aggregated_posterior(idgan: Path, tmp_path: Path) -> None:
    """Each is some training image's, of which many take part; the first k do not depend on the count."""
    finish(export(idgan, tmp_path / "out"))
    model = trainer.load(tmp_path / "out")
    assert model.bank is not None
    mean, logvar = model.bank
    c = model.codes(200, seed=3)
    eps = normal(3, Purpose.EVAL_CODE, torch.arange(200), (c.shape[1],))
    every = sample_posterior(mean[None], logvar[None], eps[:, None])  # [200, N, c_dim]
    nearest = (every - c[:, None]).abs().amax(2).min(1)
    assert float(nearest.values.max()) < 1e-6
    assert len(set(nearest.indices.tolist())) > 100
    assert torch.equal(model.codes(20, seed=3), c[:20])
    torch.testing.assert_close(model.sample(3, seed=3), model.sample(9, seed=3)[:3])
    assert not torch.equal(model.sample(3, seed=3), model.sample(3, seed=4))


def test_it_needs_neither_run_nor_data(idgan: Path, sprites: Path, vae: Path, tmp_path: Path) -> None:
    """Copied elsewhere, with the run, the data and the VAE gone, in another process and folder.

    Takes more than ten seconds: an interpreter of its own imports torch.
    """
    copies = {name: tmp_path / "there" / name for name in ("data", "run", "vae")}
    for name, source in (("data", sprites), ("run", idgan), ("vae", vae)):
        shutil.copytree(source, copies[name])
    config = copies["run"] / "config.yaml"
    config.write_text(config.read_text().replace(str(sprites), str(copies["data"])))
    finish(export(copies["run"], tmp_path / "out"))
    before = trainer.load(tmp_path / "out").sample(4)
    shutil.rmtree(tmp_path / "there")
    script = "import trainer, torch; torch.save(trainer.load('out').sample(4), 'found.pt')"
    env = os.environ | {"PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, check=True, timeout=120)
    assert torch.equal(torch.load(tmp_path / "found.pt"), before)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md", "export.json", "config.yaml", "generator.safetensors", "encoder.safetensors", "bank.safetensors",
    }  # fmt: skip


def test_generator_and_q_are_of_one_checkpoint_while_the_run_saves(
    sprites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """InfoGAN's q is read after the generator: a checkpoint that is published in between is not looked at."""
    run, real_steps, real_average = tmp_path / "run", published.steps, run_networks.averaged_generator
    finish(train_system("infogan", sprites, run, 2, schedule__save_kimg=BATCH / 1000))
    newer, older = published.steps(run)

    def before_the_save(*args: Any) -> Any:
        monkeypatch.setattr(published, "steps", lambda path: [older])
        found = real_average(*args)
        monkeypatch.setattr(published, "steps", real_steps)
        return found

    monkeypatch.setattr(run_networks, "averaged_generator", before_the_save)

    def exported() -> CodeEncoder | None:
        assert write.export_run(run, tmp_path / "out", None, None).origin["step"] == older.name
        return trainer.load(tmp_path / "out").encoder

    for read in (exported, lambda: open_run(run).q):
        encoder = read()
        assert encoder is not None
        for name, tensor in encoder.encoder.state_dict().items():
            assert torch.equal(tensor, tensors(older)[f"q.encoder.{name}"])
    first = next(iter(encoder.encoder.state_dict()))
    assert not torch.equal(tensors(older)[f"q.encoder.{first}"], tensors(newer)[f"q.encoder.{first}"])


@pytest.mark.parametrize("system", ["gan", "infogan", "cgan"])
def test_the_other_systems(system: str, sprites: Path, vae: Path, tmp_path: Path) -> None:
    more = {"vae": vae} if system == "cgan" else {}
    finish(train_system(system, sprites, tmp_path / "run", 2, **more))
    finish(export(tmp_path / "run", tmp_path / "out"))
    model, run = trainer.load(tmp_path / "out"), open_run(tmp_path / "run")
    assert run.generator is not None
    s, c = model.nuisance(3), model.codes(3)
    assert torch.equal(model.sample(3), (run.generator(torch.cat((s, c), 1)) + 1) / 2)
    x = torch.rand(2, 1, 64, 64)
    if system == "gan":
        with pytest.raises(UserError, match="no encoder"):
            model.encode(x)
    else:
        torch.testing.assert_close(model.encode(x), run.require_encoder()(x * 2 - 1), rtol=1e-4, atol=1e-5)
    if system == "infogan":
        assert torch.equal(c, normal(0, Purpose.EVAL_CODE, torch.arange(3), (run.c_dim,)))
        with pytest.raises(UserError, match="no decoder"):
            model.decode(c)


def test_an_encoder_of_your_own_comes_along(sprites: Path, tmp_path: Path) -> None:
    class Mine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(64 * 64, 20)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            mean, logvar = self.linear(x.flatten(1)).chunk(2, 1)
            return mean, logvar

    own_encoder.export(Mine(), tmp_path / "mine.pt2", 1)
    finish(train("gan", sprites, tmp_path / "run", 2, vae=tmp_path / "mine.pt2"))
    finish(export(tmp_path / "run", tmp_path / "out"))
    model = trainer.load(tmp_path / "out")
    assert model.metadata.encoder == "own"
    images = open_run(tmp_path / "run").data.at(torch.arange(4), 0).float() / 255
    assert model.bank is not None
    torch.testing.assert_close(model.encode(images)[0], model.bank[0][:4], rtol=1e-4, atol=1e-5)
    assert model.sample(2).shape == (2, 1, 64, 64)


def test_a_step_and_an_average_may_be_named(sprites: Path, vae: Path, tmp_path: Path) -> None:
    averages = "[{decay: 0.9}, {half_life_kimg: 1}]"
    finish(train("gan", sprites, tmp_path / "run", 10, vae=vae, ema__averages=averages))
    found = []
    for i, more in enumerate(([], ["--step", "80"], ["--ema", "half_life_1kimg"])):
        finish(export(tmp_path / "run", tmp_path / f"out{i}", *more))
        model = trainer.load(tmp_path / f"out{i}")
        found.append((model.metadata.origin["step"], model.metadata.origin["ema"], model.sample(1)))
    assert [(step, ema) for step, ema, _ in found] == [
        ("step-000000000160", "decay_0.9"),
        ("step-000000000080", "decay_0.9"),
        ("step-000000000160", "half_life_1kimg"),
    ]
    assert not torch.equal(found[0][2], found[1][2])
    assert not torch.equal(found[0][2], found[2][2])


def test_what_cannot_be_exported_is_refused(idgan: Path, vae: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for argv, words in (
        ((idgan, tmp_path / "there"), "is there already; name a folder that is not, or remove it"),
        ((vae, tmp_path / "out", "--ema", "decay_0.999"), "is a run of stage 1, which averages nothing"),
        ((tmp_path / "none", tmp_path / "out"), "no run here (no config.yaml)"),
        ((idgan, tmp_path / "out", "--step", "7"), "checkpoint step-000000000007 is not there; choose one of"),
        ((idgan, tmp_path / "out", "--ema", "x"), "--ema: x:"),
    ):
        running = finish(export(*argv), 2)
        assert words in running.err
        assert "Traceback" not in running.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["export.json", "generator.safetensors", "encoder.safetensors", "bank.safetensors"])
def test_a_damaged_export_is_named(name: str, idgan: Path, tmp_path: Path) -> None:
    finish(export(idgan, tmp_path / "out"))
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"{name}: is missing or damaged"):
        trainer.load(tmp_path / "out")
    path.unlink()
    with pytest.raises(UserError, match=f"{name}: is missing or damaged"):
        trainer.load(tmp_path / "out")


def test_another_format_is_refused(idgan: Path, tmp_path: Path) -> None:
    finish(export(idgan, tmp_path / "out"))
    path = tmp_path / "out" / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))
    with pytest.raises(UserError, match="has format 3, this program reads 1 and 2; export the run again"):
        trainer.load(tmp_path / "out")


def die_while_publishing(run: str, out: str, at: int) -> None:
    count, publish = [0], write.publish

    def counting(path: Path, data: bytes) -> None:
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        publish(path, data)

    write.publish = counting  # type: ignore[assignment]
    write.export_run(Path(run), Path(out))


@pytest.mark.parametrize("at", [1, 3])
def test_a_kill_leaves_nothing_that_looks_whole_and_the_next_export_works(at: int, idgan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert processes.start(die_while_publishing, (str(idgan), str(out), at), tmp_path / "logs").wait(60) == -9
    assert not out.exists()
    finish(export(idgan, out))
    assert trainer.load(out).sample(1).shape == (1, 1, 32, 32)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]
