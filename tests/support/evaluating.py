"""Evaluation commands as processes, their output, and reference implementations of their networks."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cleanfid.inception_pytorch as reference
import numpy as np
import pytest
import torch
from cleanfid.fid import compute_fid
from cleanfid.resize import build_resizer
from torch import Tensor, nn

from evaluation.disentanglement import mig
from evaluation.published_networks import inception

from . import processes
from .training import finish


def evaluate(folder: Path, *argv: object, code: int = 0) -> processes.Running:
    """Run `python -m evaluation ARGV` and expect this exit code. folder: of its output."""
    return finish(processes.command("evaluation", argv, folder), code)


def quickly(folder: Path, *argv: object, place: Path | None = None) -> processes.Running:
    """Start `python -m evaluation ARGV` with few images behind MIG, FVM, latents and control.

    Nothing is pruned, and no whole grid is encoded. place: the folder to run it in.
    """
    return processes.start(quick, ([str(a) for a in argv], None if place is None else str(place)), folder)


def quick_by_few_features(argv: list[str]) -> None:
    """The same, where a file of legacy_pytorch holds a small network, as those of `clean` in benchmarks/fid.py do.

    Inception takes a second for two images, and a distance in its 2,048 dimensions many more.
    """
    from evaluation.fid import extractors

    extractors.LOADERS["legacy_pytorch"] = extractors.LOADERS["clean"]
    quick(argv)


def small_program(place: Path, argv: Sequence[str]) -> processes.Running:
    """Start `python -m ARGV` in a folder, as experiments start theirs; evaluation as `quickly` does."""
    name, *more = argv
    if name == "evaluation":
        return quickly(place / "logs", *more, place=place)
    return processes.start(processes.module_in, (str(place), name, more), place / "logs")


def quick(argv: list[str], place: str | None = None) -> None:
    """What `python -m evaluation ARGV` does, as `quickly` starts it."""
    from data_shards.sources.faces import render
    from evaluation.disentanglement import encoding, factor_vae, labelled_codes
    from evaluation.factors import control, latents
    from evaluation.pages import interpolation

    represent = encoding.representation
    encoding.representation = lambda run, space, whole_grid: represent(run, space, whole_grid=False)
    for name in ("paper", "short"):
        factor_vae.FVM_PROTOCOLS[name] = factor_vae.FvmProtocol(200, 0.0, 8, 30, 0)
    factor_vae.FVM_PROTOCOLS["faces-short"] = factor_vae.FvmProtocol(60, 0.0, 4, 15, 0)
    render.SMALLEST = 64  # faces that are drawn for a metric are not shrunk from 256 px, which takes five times as long
    mig.MIG_SAMPLES = 200
    for name in ("dlib", "short"):
        labelled_codes.PREDICTOR_PROTOCOLS[name] = labelled_codes.PredictorProtocol(100, 50, 1)
    latents.BASES = 4
    latents.posteriors.__wrapped__.__defaults__ = (64,)  # type: ignore[attr-defined]  # reals behind the KL of each latent
    interpolation.KEYS = 2
    control.GRID = 8
    latents.MEANS = 256
    if place is not None:
        os.chdir(place)
    processes.module("evaluation", argv)


def answer(running: processes.Running) -> dict[str, Any]:
    """Return the record on the last line of standard output."""
    record: dict[str, Any] = json.loads(running.out.splitlines()[-1])
    return record


def clean_fid(generated: Path, reals: Path, weights: Path) -> float:
    """Return clean-fid's number for two folders of files."""
    layers = torch.jit.load(weights).layers
    return float(
        compute_fid(
            str(generated),
            str(reals),
            custom_feat_extractor=lambda x: layers((x - 128) / 128),  # as its InceptionV3W does, which insists on 2,048
            use_dataparallel=False,
            num_workers=0,
            batch_size=64,
            device=torch.device("cpu"),
            verbose=False,
        )
    )


def random_inception(path: Path) -> Path:
    """Write a random state dict for pytorch-fid's network; its features neither vanish nor explode."""
    torch.manual_seed(0)
    state = inception.PytorchFid().state_dict()
    for name, value in state.items():
        if name.endswith("bn.weight"):
            value.uniform_(0.8, 1.6)
        elif name.endswith(("bn.bias", "running_mean")):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("conv.weight"):
            nn.init.kaiming_normal_(value)
    torch.save(state, path)
    return path


def pytorch_fid(images: Tensor, weights: Path) -> Tensor:
    """Return features [B, 2048] of the reference network. images: uint8 [B, 3, R, R], resized as its files are."""
    resize = build_resizer("legacy_pytorch")
    files = np.stack([resize(image.permute(1, 2, 0).numpy()) for image in images])
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(reference, "load_state_dict_from_url", lambda *_, **__: torch.load(weights))
        network = reference.InceptionV3(output_blocks=[3], resize_input=False).eval()
        features: Tensor = network(torch.from_numpy(files).permute(0, 3, 1, 2) / 255)[0].flatten(1)
    return features


def unmeasured(run: Path, to: Path) -> Path:
    """Return a copy of a run without the records of evaluations; other tests leave some in a run that they share."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("evaluation", "logs"))
    return to


def lines(run: Path, command: str) -> list[str]:
    """Return the records of a command on a run, as lines of JSON."""
    path = run / "evaluation" / f"{command}.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def refused(running: processes.Running, *words: object, code: int = 2) -> None:
    """Expect the exit code, all of `words` on standard error, no traceback and no output."""
    finish(running, code)
    for word in words:
        assert str(word) in running.err, running.err
    assert "Traceback" not in running.err
    assert not running.out


def self_contained(page: str) -> bool:
    """True if a page needs no other file."""
    return not re.search(r"(src|href)=[\"'](?!data:)", page) and "@import" not in page and "url(" not in page
