"""A checkpoint by its name or by images seen, not the newest."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evaluation.inputs.run import GrownGenerator, open_run
from evaluation.inputs.target import of_run
from tests.support import processes
from tests.support.evaluating import answer, evaluate, quickly, refused, unmeasured
from tests.support.training import finish, tensors, train
from trainer.checkpoints import published
from trainer.export import run_networks

OLD, NEW = "step-000000000032", "step-000000000048"


@pytest.fixture(scope="module")
def run(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ID-GAN of three iterations of 16, with a checkpoint of each: the last two are kept."""
    made = tmp_path_factory.mktemp("named") / "gan"
    finish(train("gan", sprites, made, 3, vae=vae, s_dim=2, schedule__save_kimg=0.016))
    assert [path.name for path in published.steps(made)] == [NEW, OLD]
    return made


@pytest.mark.parametrize("name", [OLD, "32", "000032"])
def test_the_weights_are_those_of_the_named_step(name: str, run: Path) -> None:
    opened, newest = open_run(run, name), open_run(run)
    assert (opened.step.name, opened.images_seen, newest.step.name) == (OLD, 32, NEW)
    saved, later = tensors(published.folder(run) / OLD), tensors(published.folder(run) / NEW)
    for stage, truth in ((opened.generator, saved), (newest.generator, later)):
        assert isinstance(stage, GrownGenerator)
        for key, tensor in stage.network.state_dict().items():
            assert torch.equal(tensor, truth[f"ema.decay_0.999.{key}"])
    assert not torch.equal(saved["ema.decay_0.999.layers.0.weight"], later["ema.decay_0.999.layers.0.weight"])


def test_the_vae_and_infogans_q_are_of_the_step_too(
    vae: Path, systems: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_networks, "read_newest", None)
    for path, prefix in ((vae, "vae.encoder"), (systems["infogan"], "q.encoder")):
        newest = published.newest(path)
        assert newest is not None
        opened, saved = open_run(path, str(published.read_manifest(newest)["images_seen"])), tensors(newest)
        assert opened.step == newest
        assert opened.q is not None
        for key, tensor in opened.q.encoder.state_dict().items():
            assert torch.equal(tensor, saved[f"{prefix}.{key}"])


def test_every_command_measures_the_named_step(run: Path, tmp_path: Path) -> None:
    for command, *options in (
        ("fid", "--samples", 48),
        ("alignment", "--samples", 16),
        ("latents",),
        ("disentanglement", "--protocol", "short"),
        ("control",),
    ):
        record = answer(finish(quickly(tmp_path, command, run, *options, "--step", 32)))
        assert (record["step"], record["images_seen"], record["iteration"]) == (OLD, 32, 2), command
    old, new = (answer(evaluate(tmp_path, "fid", run, "--samples", 48, *more)) for more in (("--step", OLD), ()))
    assert new["step"] == NEW
    assert old["kinds"]["gan"]["fid"] != new["kinds"]["gan"]["fid"]
    assert old["weights_sha256"] != new["weights_sha256"]


def test_the_same_step_of_other_weights_is_another(run: Path) -> None:
    """As after a run from the start with other code: nothing of the one before is gone on with."""
    opened, others = open_run(run), open_run(run, OLD)
    swapped = replace(opened, generator=others.generator)
    assert swapped.describe()["step"] == opened.describe()["step"]
    assert swapped.describe()["weights_sha256"] != opened.describe()["weights_sha256"]
    assert open_run(run).describe()["weights_sha256"] == opened.describe()["weights_sha256"]
    kept = [of_run(one).identity("gan") for one in (opened, swapped)]
    assert kept[0] != kept[1]


def test_figures_of_an_older_step_lie_apart_and_the_page_stays_with_the_newest(run: Path, tmp_path: Path) -> None:
    """Takes more than ten seconds: all figures are drawn three times."""
    folder = run / "evaluation" / "figures"
    files = [Path(p) for p in answer(evaluate(tmp_path, "figures", run))["files"]]
    assert {path.parent for path in files} == {folder}
    kept = {path: path.read_bytes() for path in files}
    older = [Path(p) for p in answer(evaluate(tmp_path, "figures", run, "--step", OLD))["files"]]
    assert {path.parent for path in older} == {folder / OLD}
    assert kept == {path: path.read_bytes() for path in files}
    assert (folder / OLD / "samples.png").read_bytes() != kept[folder / "samples.png"]
    again = [Path(p) for p in answer(evaluate(tmp_path, "figures", run, "--step", 48))["files"]]
    assert again == files
    evaluate(tmp_path, "fid", run, "--samples", 50)
    evaluate(tmp_path, "fid", run, "--samples", 48, "--step", OLD)
    text = Path(answer(evaluate(tmp_path, "report", run))["page"]).read_text()
    assert "against 50 reals" in text
    assert "not the newest checkpoint" not in text.split("<h2>Quality</h2>")[1].split("<h2>")[0]
    assert text.count("Drawn at 0.0 kimg.") == 4, "samples, interpolation, traversals, c against s"


def test_pictures_of_an_earlier_checkpoint_say_so(run: Path, tmp_path: Path) -> None:
    """Drawn when it was the newest."""
    copy, aside = tmp_path / "gan", tmp_path / "newest"
    unmeasured(run, copy)
    (published.folder(copy) / NEW).rename(aside)
    evaluate(tmp_path / "logs", "figures", copy)
    aside.rename(published.folder(copy) / NEW)
    text = Path(answer(evaluate(tmp_path / "logs", "report", copy))["page"]).read_text()
    assert text.count("Drawn at 0.0 kimg, not the newest checkpoint.") == 4


def test_a_record_of_another_step_is_shown_where_there_is_no_other_and_says_so(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "gan"
    unmeasured(run, copy)
    old = answer(evaluate(tmp_path / "logs", "fid", copy, "--samples", 48, "--step", OLD))
    text = Path(answer(evaluate(tmp_path / "logs", "report", copy))["page"]).read_text()
    assert f"<td>{old['kinds']['gan']['fid']:.3g}</td>" in text
    assert "not the newest checkpoint" in text


@pytest.mark.parametrize("name", ["16", "step-000000000016", "newest", "../checkpoints/" + NEW, "-1"])
def test_an_unknown_step_is_refused_with_those_that_are_there(name: str, run: Path, tmp_path: Path) -> None:
    running = processes.command("evaluation", ("fid", run, f"--step={name}", "--samples", 16), tmp_path)
    refused(running, run, "is not there", f"choose one of {OLD}, {NEW}")


def test_a_broken_step_is_refused_and_not_replaced_by_another(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "gan"
    unmeasured(run, copy)
    broken = published.folder(copy) / NEW
    data = next(path for path in broken.iterdir() if path.suffix == ".distcp")
    data.write_bytes(b"\0" * data.stat().st_size)
    running = processes.command("evaluation", ("fid", copy, "--step", 48), tmp_path)
    refused(running, NEW, "cannot be read", f"choose one of {OLD}")
    assert f"{OLD}, {NEW}" not in running.err
    data.write_bytes(b"")
    refused(processes.command("evaluation", ("fid", copy, "--step", 48), tmp_path), NEW, "0 bytes", f"one of {OLD}")
    shutil.rmtree(published.folder(copy))
    refused(processes.command("evaluation", ("fid", copy, "--step", 48), tmp_path), "is not there", "train the run")
