"""Messages that led nowhere: a read-only disk, a path that is not there, images that are all the same."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from common.errors import UserError
from evaluation.fid import compute
from evaluation.fid.frechet import Moments
from evaluation.fid.partial_sums import Sums
from evaluation.fid.references import Reference
from evaluation.fid.sharpness import SharpnessSums
from evaluation.inputs.choices import KINDS
from tests.support import processes
from tests.support.data_sets import hashes
from tests.support.evaluating import answer, evaluate, quickly, refused, self_contained
from tests.support.training import VAE, finish, overrides, train
from trainer.encoders import frozen


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Mount a folder read-only on itself, where this process may; else the test is passed over."""
    for command in (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)]):
        if subprocess.run(["mount", *command], capture_output=True, check=False).returncode:
            pytest.skip("needs root, to mount a folder read-only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def gan(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("gan") / "gan"
    finish(train("gan", sprites, run, 5, vae=vae, s_dim=4))
    return run


@pytest.mark.root
def test_a_run_that_cannot_be_written_is_measured_into_another_folder(gan: Path, tmp_path: Path) -> None:
    """With nothing written in the run, and one page of all that was measured."""
    before, out, logs = hashes(gan), tmp_path / "out", tmp_path / "logs"
    with read_only(gan):
        for argv in (("latents", gan), ("fid", gan, "--samples", 64), ("report", gan)):
            refused(quickly(logs, *argv), gan / "evaluation", "cannot be written", "--out")
        fid = answer(finish(quickly(logs, "fid", gan, "--samples", 64, "--of", "gan,vae", "--out", out)))
        for command, *more in (("latents",), ("alignment", "--samples", 64), ("figures",)):
            finish(quickly(logs, command, gan, "--out", out, *more))
        page = answer(finish(quickly(logs, "report", gan, "--out", out)))["page"]
    assert hashes(gan) == before
    assert {path.name for path in out.iterdir()} >= {"fid.jsonl", "latents.jsonl", "figures", "trajectory.csv"}
    text = Path(page).read_text()
    assert self_contained(text)
    assert f"{fid['kinds']['gan']['fid']:.3g}" in text
    for title in ("Quality", "What each latent moves", "Reals and samples", "Code alignment"):
        assert title in text


@pytest.mark.root
def test_runs_that_cannot_be_written_are_compared(gan: Path, tmp_path: Path) -> None:
    out = tmp_path / "page"
    with read_only(gan):
        for _ in range(2):  # the second time everything is measured already
            finish(quickly(tmp_path / "logs", "beside", gan, "--samples", 64, "--out", out))
    (kept,) = (out / "results").glob("gan-*/fid.jsonl")
    assert len(kept.read_text().splitlines()) == 1


def test_a_folder_for_results_that_is_a_file_is_refused_before_anything_is_measured(gan: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(evaluate(tmp_path / "logs", "figures", gan, "--out", out, code=2), out, "cannot be written")


def test_a_vae_that_is_not_there_is_not_told_to_train_further(sprites: Path, vae: Path, tmp_path: Path) -> None:
    running = train("gan", sprites, tmp_path / "run", 5, vae=tmp_path / "nope")
    refused(running, f"vae: {tmp_path}/nope: no such file or folder; name a run folder of `python -m trainer vae`")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    (step,) = (vae / "checkpoints").glob("step-*")
    for path, words in (
        (tmp_path / "nope.safetensors", "no such file or folder"),
        (tmp_path / "empty", "is no run and no file of an encoder; name a run folder"),
        (tmp_path / "notes.txt", "is no run and no file of an encoder"),
        (step, f"it lies in the run {vae}, whose newest checkpoint vae={vae} takes"),
        (vae / "checkpoints", f"it lies in the run {vae}"),
        (vae / "config.yaml", f"it lies in the run {vae}"),
    ):
        with pytest.raises(UserError) as error:
            frozen.load(path)
        assert str(error.value).startswith(f"vae: {path}: ")
        assert words in str(error.value)


def test_a_checkpoint_in_place_of_its_run_is_told_which_run(gan: Path, tmp_path: Path) -> None:
    (step,) = (gan / "checkpoints").glob("step-*")
    refused(evaluate(tmp_path, "figures", step, code=2), f"name the whole, {gan}, with --step {step.name}")
    refused(evaluate(tmp_path, "fid", gan / "config.yaml", code=2), f"is a part of a run; name the whole, {gan}")
    refused(evaluate(tmp_path, "fid", tmp_path / "nope", code=2), f"{tmp_path}/nope: no such folder")


def test_a_run_folder_that_is_a_file_or_has_no_possible_name(sprites: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, words in (("file", "File exists"), ("a" * 300, "File name too long"), ("file/run", "Not a directory")):
        argv = ["vae", VAE, *overrides(sprites, tmp_path / name, 2)]
        refused(processes.command("trainer", argv, tmp_path / "logs"), tmp_path / name, words, "check the path")


def test_a_reference_that_is_not_there_is_not_told_to_be_removed(gan: Path, tmp_path: Path) -> None:
    running = evaluate(tmp_path, "fid", gan, "--reference", tmp_path / "nope", code=2)
    refused(running, f"{tmp_path}/nope: no such file; make it with `python -m evaluation reference")
    assert "remove" not in running.err


def test_images_that_are_all_the_same_mean_another_thing_for_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    """The generator has collapsed where its own images are the same, and not where the reals are."""
    told = {kind: warning(kind, caplog) for kind in KINDS}
    assert [kind for kind in KINDS if "collapsed" in told[kind]] == ["gan"]
    assert "the set holds one image many times" in told["reals"]
    assert len(set(told.values())) == len(KINDS)


def warning(kind: str, caplog: pytest.LogCaptureFixture) -> str:
    """What is said of eight equal images of a kind, against eight random ones."""
    reals, same = np.random.default_rng(0).normal(size=(8, 4)), np.ones((8, 4))
    moments = [Moments.empty(4), Moments.empty(4)]
    for one, features in zip(moments, (reals, same), strict=True):
        one.add(torch.from_numpy(features))
    store = SimpleNamespace(load_features=lambda count: same)
    one_pass = cast(Any, SimpleNamespace(kind=kind, seed=0, count=8, store=store))
    sums = Sums(1, moments[1], 0, {64: SharpnessSums.empty(64)})
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        compute._numbers(one_pass, sums, Reference({}, moments[0], reals.astype(np.float32), {}), None)
    (record,) = caplog.records
    return record.getMessage()


def test_a_copy_of_a_run_that_trains_can_be_trained_at_once(sprites: Path, tmp_path: Path) -> None:
    """Its lock came along, and is that of the original."""
    run, copy = tmp_path / "run", tmp_path / "copy"
    running = train("vae", sprites, run, 1000, schedule__save_kimg=0.016)
    while not list(run.glob("checkpoints/latest")):
        assert running.process.is_alive(), running.err
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("*.tmp", "*.trash", "step-*"))
    assert (copy / "lock").is_file()
    try:
        finish(train("vae", sprites, copy, 2))
    finally:
        running.kill()
        running.process.join()
