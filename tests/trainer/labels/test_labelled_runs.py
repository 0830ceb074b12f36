"""A run with labels from its first batch to its export: every image keeps the label that its sample has in the set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import trainer
from common.errors import UserError
from common.random_numbers import Purpose, integers
from data_shards.read.loader import open_dataset
from data_shards.sources.sprites.renderer import Factors, render_factors
from evaluation import fid_steps
from evaluation.alignment import asked_classes
from evaluation.alignment.found_factors import alignment
from evaluation.factors.factor_network import load_factor_extractor
from evaluation.fid import references
from evaluation.fid.plan import FidPlan, check
from evaluation.inputs.images import nuisance
from evaluation.inputs.run import Run, open_run
from evaluation.inputs.target import of_run
from evaluation.records import measurements
from tests.support import processes
from tests.support.training import BATCH, finish, train
from trainer.apps.latents import latents_of
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.distributed.world import ALONE, World
from trainer.preflight import gan_stage
from trainer.steps import batches as batches_module
from trainer.steps.schedule import Now

S, SHAPES = 2, 3
NOW = Now(64, BATCH, None)


@pytest.fixture(scope="module")
def run(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ID-GAN of five iterations that is told shape and scale."""
    path = tmp_path_factory.mktemp("labelled") / "gan"
    finish(train("gan", sprites, path, 5, vae=vae, labels="[shape, scale]", s_dim=S))
    return path


@pytest.fixture(scope="module")
def export(run: Path) -> Path:
    out = run.parent / "export"
    finish(processes.command("trainer", ["export", run, out], run.parent / "logs"))
    return out


@pytest.fixture(scope="module")
def shapes(sprites: Path) -> Tensor:
    """The shape of every sample of the set."""
    factors = open_dataset(sprites, 64).factors
    assert factors is not None
    return torch.from_numpy(factors[:, 0])


def test_g_and_d_are_told_the_label_of_each_sample_on_every_process(
    run: Path, shapes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(GanConfig, run / "config.yaml", ["data.workers=0"])
    scales = torch.from_numpy(open_dataset(config.data.path, 64).factors[:, 1])  # type: ignore[index]
    stage, seen = gan_stage(config, ALONE), []
    real = batches_module.reals
    monkeypatch.setattr("trainer.stages.gan.reals", lambda *args: seen.append((args[0], real(*args))) or seen[-1][1])
    for world in (ALONE, World(1, 2, ALONE.device, None)):
        batch = next(stage.data.batches(config, NOW, 3 * BATCH, world))
        stage.step([[batch]], NOW, 3 * BATCH)
        _, reals = seen[-1]
        assert reals.y is not None
        assert torch.equal(reals.y[:, :SHAPES].argmax(1), shapes[batch.samples])
        assert torch.equal(reals.y[:, SHAPES:].argmax(1), scales[batch.samples])
        assert torch.equal(reals.y.sum(1), torch.full((BATCH // world.size,), 2.0))


def test_an_export_draws_codes_and_labels_of_the_same_images(run: Path, export: Path, shapes: Tensor) -> None:
    model = trainer.load(export)
    assert model.bank is not None
    assert torch.equal(model.label_rows[:, 0], shapes)  # a small set is in the bank as a whole
    at = torch.arange(40)
    image = integers(0, Purpose.EVAL_ORDER, at, (), len(shapes))
    assert torch.equal(model.nuisance(at)[:, S : S + SHAPES].argmax(1), shapes[image])
    off = (model.codes(at) - model.bank[0][image]) / (model.bank[1][image] / 2).exp()
    assert float(off.abs().max()) < 5  # standard deviations
    hearts = model.nuisance(at, classes="shape=heart")
    assert set(hearts[:, S : S + SHAPES].argmax(1).tolist()) == {2}
    assert torch.equal(hearts[:, :S], model.nuisance(at)[:, :S])
    s, c = model.nuisance(4, classes="shape=heart"), model.codes(4)
    other = model.nuisance(4, classes="shape=square")
    assert not torch.equal(model.generate(s, c), model.generate(other, c))
    hearts = shapes.eq(2).nonzero()[:, 0]
    image = hearts[integers(0, Purpose.EVAL_ORDER, at, (), len(hearts))]
    off = (model.codes(at, classes="shape=heart") - model.bank[0][image]) / (model.bank[1][image] / 2).exp()
    assert float(off.abs().max()) < 5
    with pytest.raises(Exception, match="'star' is no class of shape"):
        model.sample(1, classes="shape=star")


def test_classes_that_no_image_has_together_are_drawn_with_any_code(export: Path) -> None:
    model = trainer.load(export)
    model.label_rows = model.label_rows.clone()
    model.label_rows[:, 1] = 0
    asked = model.nuisance(8, classes="shape=heart,scale=5")
    assert asked[:, S:].tolist() == [[0, 0, 1, 0, 0, 0, 0, 0, 1]] * 8
    assert torch.equal(model.codes(8, classes="shape=heart,scale=5"), model.codes(8))


def test_generate_draws_a_class_and_truncates_s_alone(export: Path, tmp_path: Path) -> None:
    finish(processes.command(
        "trainer", ["generate", export, "--seeds", "0-1", "--out", tmp_path / "a", "--class", "shape=heart"], tmp_path
    ))  # fmt: skip
    model = trainer.load(export)
    s, c = model.nuisance(2, classes="shape=heart"), model.codes(2, classes="shape=heart")
    assert json.loads((tmp_path / "a" / "images.json").read_text())["class"] == "shape=heart"
    drawn = np.array(Image.open(tmp_path / "a" / "seed000001.png"))
    assert np.abs(drawn / 255 - model.generate(s[1:], c[1:])[0, 0].numpy()).max() < 0.003
    half = latents_of(model, export, None, 0.5, (), "shape=heart").of(1)[0]
    assert torch.equal(half[:, :S], s[1:, :S] / 2)
    assert torch.equal(half[:, S:], s[1:, S:])
    refused = finish(processes.command(
        "trainer", ["generate", export, "--seeds", "0", "--out", tmp_path / "b", "--class", "shape=star"], tmp_path
    ), 2)  # fmt: skip
    assert "--class: shape=star: 'star' is no class of shape; choose square, ellipse, heart" in refused.err


def test_fid_of_each_class_compares_it_with_reals_of_it_and_leaves_the_trajectory(
    run: Path, export: Path, shapes: Tensor
) -> None:
    logs = run.parent / "logs"
    finish(processes.command("evaluation", ["fid", run, "--samples", "20", "--class", "each"], logs))
    opened = open_run(run)
    records = measurements.every(opened.results, "fid-of-class")
    assert [r["class"] for r in records] == [
        *("shape=square", "shape=ellipse", "shape=heart"), *(f"scale={k}" for k in range(6)),
    ]  # fmt: skip
    assert measurements.every(opened.results, "fid") == []
    used = [references.read(path).identity for path in (opened.config.data.path / "references").glob("*.safetensors")]  # type: ignore[operator]
    assert {r["class"] for r in records} <= {identity.get("class") for identity in used}
    of_class = opened.of_class("shape=heart", "--class")
    assert set(shapes[of_class.data.mixed(3, torch.arange(500))].tolist()) == {2}
    y = nuisance(of_class, 3, torch.arange(9), offset=4)[:, S:]
    assert set(y[:, :SHAPES].argmax(1).tolist()) == {2}
    made = processes.command("evaluation", [
        "reference", opened.config.data.path, "--samples", "20", "--class", "shape=heart", "--out", run.parent / "ref"
    ], logs)  # fmt: skip
    file = json.loads(finish(made).out.splitlines()[-1])["file"]
    argv = ["fid", export, "--samples", "20", "--reference", file]
    assert "class: shape=heart there, None here" in finish(processes.command("evaluation", argv, logs), 2).err
    finish(processes.command("evaluation", [*argv, "--class", "shape=heart"], logs))


class Drawer(nn.Module):
    """Draws the shape that y asks for, or a heart whatever it asks for, where s says. z: [s, y, c]."""

    resolution = 64

    def __init__(self, listens: bool) -> None:
        super().__init__()
        self.listens = listens

    def forward(self, z: Tensor) -> Tensor:
        shape = z[:, S : S + SHAPES].argmax(1).numpy() if self.listens else np.full(len(z), 2)
        place, size = z[:, :S].sigmoid().numpy().astype(np.float32), np.full(len(z), 0.8, np.float32)
        drawn = render_factors(Factors(shape, size, np.zeros(len(z), np.float32), place[:, 0], place[:, 1]))
        return torch.from_numpy(drawn).float().reshape(len(z), 1, 64, 64) / drawn.max() * 2 - 1


def measured(run: Run, listens: bool) -> dict[str, Any]:
    found = asked_classes.measure(replace(run, generator=Drawer(listens)), load_factor_extractor(), 32, "posterior", 0)
    return found["shape"]


def test_a_generator_that_listens_is_told_from_one_that_does_not(run: Path) -> None:
    opened = open_run(run)
    assert [label.name for label in asked_classes.readable(opened, load_factor_extractor())] == ["shape"]
    listening = measured(opened, True)
    assert all(one.own == one.any_code == one.reals == 1 for one in listening.values())
    deaf = measured(opened, False)
    assert {name: one.own for name, one in deaf.items()} == {"square": 0, "ellipse": 0, "heart": 1}
    assert asked_classes.table_rows({"shape": deaf})[-1] == ["shape", "mean", "100.0%", "33.3%", "33.3%", "33.3%"]


def test_a_class_of_one_image_or_none_is_left_out_of_each_and_refused_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = open_run(run)
    assert opened.labels is not None
    rows = opened.labels.rows.clone()
    rows[:, 0] = 0
    rows[5, 0] = 2
    target = of_run(replace(opened, labels=opened.labels._replace(rows=rows)))
    found = [one.data["class"] for one in fid_steps.targets(target, "each")]
    assert found == ["shape=square", *(f"scale={k}" for k in range(6))]
    assert "shape=ellipse is left out" in caplog.text
    assert "shape=heart is left out" in caplog.text
    (heart,) = fid_steps.targets(target, "shape=heart")
    plan = FidPlan(fid_steps.network(heart, None, None, None, ALONE), ("gan",), 9, "posterior", 0)
    with pytest.raises(UserError, match="there is one real of shape=heart to compare with"):
        check(heart, plan, 1, 0)
    with pytest.raises(UserError, match="no image of the set has shape=ellipse"):
        fid_steps.targets(target, "shape=ellipse")


@pytest.mark.parametrize("command", ["latents", "figures", "control"])
def test_other_commands_take_a_labelled_run(command: str, run: Path) -> None:
    finish(processes.command("evaluation", [command, run], run.parent / "logs"))


def test_latents_of_a_gan_without_a_code_are_those_of_s(sprites: Path, tmp_path: Path) -> None:
    """Behind s stands y, which is no latent."""
    gan = "configs/dsprites/gan.yaml"
    finish(train("gan", sprites, tmp_path / "gan", 1, gan, labels="shape", s_dim=3))
    finish(processes.command("evaluation", ["latents", tmp_path / "gan"], tmp_path / "logs"))
    (record,) = measurements.every(open_run(tmp_path / "gan").results, "latents")
    assert record["latents"] == ["s1", "s2", "s3"]
    assert len(record["share_of_range"]) == 3


def test_alignment_asks_for_the_labels_of_its_sources(run: Path) -> None:
    """The code of a source comes with the shape of that source, so a generator that listens has all of them right."""
    opened = replace(open_run(run), generator=Drawer(True), vae=None)
    assert alignment(opened, load_factor_extractor(), 64, 0)["gan"]["shape"] == 1


def test_a_run_without_such_labels_is_refused_before_its_first_step(sprites: Path, vae: Path, tmp_path: Path) -> None:
    refused = finish(train("gan", sprites, tmp_path / "gan", 1, vae=vae, labels="[hats, shape]"), 2)
    assert "labels: " in refused.err
    assert "has no label or factor hats; choose from shape, scale, orientation, pos_x, pos_y" in refused.err
    assert not (tmp_path / "gan" / "checkpoints").exists()
    empty = finish(train("gan", sprites, tmp_path / "gan", 1, vae=vae, labels="[]"), 2)
    assert "it names no label; name one or more, or set labels=null" in empty.err


def test_what_was_trained_without_labels_has_no_classes(vae: Path, tmp_path: Path) -> None:
    for command in (["fid", vae, "--class", "shape=heart", "--samples", "9"], ["labels", vae]):
        assert "trained without labels" in finish(processes.command("evaluation", command, tmp_path), 2).err
