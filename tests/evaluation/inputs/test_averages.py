"""`evaluation ema` and `--ema`: what they write, read and refuse."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evaluation.inputs.run import open_run
from tests.support.evaluating import answer, evaluate, quickly, refused, unmeasured
from tests.support.training import finish, newest, train
from trainer.checkpoints import ema_snapshots

SHAPE = {
    "network": "{name: resnet, nf: 2, nf_max: 8}",
    "growth": "{start_resolution: 32, phase_kimg: 0.048, fade_kimg: 0.064}",
    "s_dim": 4,
    "ema__averages": "[{decay: 0.9}, {sigma_rel: 0.05}, {sigma_rel: 0.1}]",
    "ema__snapshot_kimg": 0.016,
}


@pytest.fixture(scope="module")
def grown(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ID-GAN at 32 px to 48 images, in the fade to 112, at 64 px to 160; a snapshot in every iteration of 16."""
    run = tmp_path_factory.mktemp("grown") / "run"
    finish(train("gan", sprites, run, 10, vae=vae, **SHAPE))
    return run


def test_the_command_writes_a_file_that_other_commands_take(grown: Path, tmp_path: Path) -> None:
    """Takes more than ten seconds: nine commands of evaluation, one of them on the 64 bases that users get."""
    running = evaluate(tmp_path, "ema", grown, "--sigma-rel", 0.07)
    record = answer(running)
    file = grown / "ema" / "reconstructed" / f"{160:012d}-sigma_rel_0.07.safetensors"
    assert record["file"] == str(file)
    assert record["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert json.loads((grown / "evaluation" / "ema.jsonl").read_text().splitlines()[-1]) == record
    for words in ("relative residual", "largest", "smallest", f"{160:012d}-sigma_rel_0.05"):
        assert words in running.out
    assert len(ema_snapshots.files(grown)) == 20, "it does not count as a snapshot"
    found = {}
    for which in (None, "sigma_rel_0.1", file):
        argv = ("fid", grown, "--samples", 48, *(() if which is None else ("--ema", which)))
        found[which] = answer(evaluate(tmp_path, *argv))
    assert [r["ema"] for r in found.values()] == ["decay_0.9", "sigma_rel_0.1", str(file)]
    assert [r.get("ema_sha256") for r in found.values()] == [None, None, record["sha256"]]
    assert len({r["kinds"]["gan"]["fid"] for r in found.values()}) == 3
    assert len({r["images_seen"] for r in found.values()}) == 1
    assert answer(evaluate(tmp_path, "latents", grown, "--ema", file))["ema"] == str(file)  # of all 64 bases, as users
    for command in (("alignment", grown, "--samples", 48), ("figures", grown)):
        assert answer(finish(quickly(tmp_path, *command, "--ema", file)))["ema"] == str(file)
    files = answer(evaluate(tmp_path, "figures", grown, "--ema", "sigma_rel_0.05"))["files"]
    assert {str(Path(name).parent) for name in files} == {str(grown / "evaluation" / "figures-sigma_rel_0.05")}
    plain_files = answer(evaluate(tmp_path, "figures", grown, "--ema", "decay_0.9"))["files"]
    assert {Path(name).parent.name for name in plain_files} == {"figures"}


def test_networks_are_those_that_were_named(grown: Path, tmp_path: Path) -> None:
    trained = newest(grown)
    for asked, name in ((None, "decay_0.9"), ("sigma_rel_0.1", "sigma_rel_0.1"), ("decay_0.9", "decay_0.9")):
        for key, tensor in open_run(grown, average=asked).generator.network.state_dict().items():
            assert torch.equal(tensor, trained[f"ema.{name}.{key}"])
    file = grown / "ema" / f"{160:012d}-sigma_rel_0.05.safetensors"
    for key, tensor in open_run(grown, average=str(file)).generator.network.state_dict().items():
        assert torch.equal(tensor, trained[f"ema.sigma_rel_0.05.{key}"])


@pytest.mark.parametrize(
    ("at", "resolution", "alpha"), [(48, 32, None), (80, 64, 0.25), (112, 64, 0.75), (144, 64, None)]
)
def test_a_file_is_of_the_stage_in_which_it_was_reached(
    at: int, resolution: int, alpha: float | None, grown: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.safetensors"
    record = answer(evaluate(tmp_path, "ema", grown, "--sigma-rel", 0.07, "--at", at, "--out", out))
    assert (record["at"], record["file"]) == (at, str(out))
    found = open_run(grown, average=str(out))
    assert (found.generator.resolution, found.images_seen, found.describe()["iteration"]) == (resolution, at, at // 16)
    assert found.generator.alpha == alpha
    assert found.describe().get("alpha") == alpha
    kept = {name: t for name, t in load_file(out).items() if ".64." in name}
    untrained = {name: t for name, t in found.untrained.network.state_dict().items() if name in kept}
    for name, tensor in kept.items():
        assert torch.allclose(tensor, untrained[name], rtol=1e-6, atol=1e-7) == (at == 48), name


def test_pages_and_comparisons_keep_to_the_first_average(grown: Path, tmp_path: Path) -> None:
    run = unmeasured(grown, tmp_path / "run")
    first = answer(evaluate(tmp_path / "logs", "fid", run, "--samples", 48))
    evaluate(tmp_path / "logs", "fid", run, "--samples", 48, "--of", "gan,untrained", "--ema", "sigma_rel_0.1")
    page = Path(answer(evaluate(tmp_path / "logs", "report", run))["page"]).read_text()
    assert f"{first['kinds']['gan']['fid']:.3g}</td>" in page
    assert "average decay_0.9" in page
    assert "--ema" not in page
    finish(quickly(tmp_path / "logs", "compare", run, "--samples", 48, "--out", tmp_path / "page"))
    told = [json.loads(line) for line in (run / "evaluation" / "fid.jsonl").read_text().splitlines()]
    compared = [r for r in told if r["argv" if "argv" in r else "command"] and "untrained" in r["kinds"]]
    assert [r["ema"] for r in compared] == ["sigma_rel_0.1", "decay_0.9"], "the other average's record was not taken"


def test_commands_refuse(grown: Path, vae: Path, sprites: Path, tmp_path: Path) -> None:
    run, logs = tmp_path / "run", tmp_path / "logs"
    shutil.copytree(grown, run)
    other = tmp_path / "other"
    finish(train("gan", sprites, other, 2, vae=vae, **SHAPE, seed=7))
    bare = tmp_path / "bare"
    shutil.copytree(grown, bare, ignore=shutil.ignore_patterns("ema"))
    foreign = next(path for path in ema_snapshots.files(other))
    asked: list[tuple[tuple[Any, ...], tuple[Any, ...]]] = [
        (("ema", bare, "--sigma-rel", 0.1), (bare / "ema", "holds no snapshots", "ema.snapshot_kimg=100")),
        (("ema", vae, "--sigma-rel", 0.1), (vae, "is a run of stage 1", "trainer gan")),
        (("ema", run), ("--sigma-rel",)),
        (("ema", run, "--sigma-rel", 0.5), ("--sigma-rel: 0.5", "up to 0.28")),
        (("ema", run, "--sigma-rel", 0.001), ("--sigma-rel: 0.001 is too far", "choose one from")),
        (("ema", run, "--sigma-rel", 0.1, "--at", 176), ("--at: 176", "the last one at 160", "144, 160")),
        (("fid", vae, "--of", "vae", "--ema", "decay_0.9"), ("--ema: decay_0.9", "stage 1", "leave --ema out")),
        (("latents", run, "--ema", "decay_0.8"), ("--ema: decay_0.8", "decay_0.9, sigma_rel_0.05, sigma_rel_0.1")),
        (("figures", run, "--ema", foreign), (foreign, "other settings, data or encoder")),
        (("figures", run, "--ema", run / "config.yaml"), (run / "config.yaml", "not a complete file of averaged")),
    ]
    for argv, words in asked:
        refused(evaluate(logs, *argv, code=2), *words)
    shutil.copy(foreign, run / "ema")
    refused(evaluate(logs, "ema", run, "--sigma-rel", 0.07, code=2), run / "ema" / foreign.name, "other settings")
    (run / "ema" / foreign.name).unlink()
    torn = ema_snapshots.files(run)[3]
    torn.write_bytes(torn.read_bytes()[:-100])
    refused(evaluate(logs, "ema", run, "--sigma-rel", 0.07, code=2), torn, "not a complete file of averaged weights")
    assert not list(run.rglob("*.tmp"))
