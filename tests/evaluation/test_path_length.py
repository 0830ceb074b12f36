"""Path lengths against what linear networks give in closed form, and against sums written out pair by pair."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluation import path_length
from tests.evaluation.factors.test_control import C_DIM, S_DIM, run_of
from tests.support.evaluating import answer, evaluate, lines, refused, unmeasured


class Linear(nn.Module):
    """z -> [B, 1, 2, 2] = weight z + 0.1: the images of a run whose generator is linear."""

    resolution = 64

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = torch.randn(4, size, generator=torch.Generator().manual_seed(0)) * 0.1

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.weight.T + 0.1).reshape(-1, 1, 2, 2)


def pixels(images: Tensor) -> Tensor:
    """As features: each of three equal channels once."""
    return images[:, :1].flatten(1) / 255


def test_in_c_it_is_the_mean_length_of_the_lines_images() -> None:
    """Of a linear generator each step along a line moves the image by weight (c' - c) / 2 in [0, 1] images."""
    run = run_of(Linear(S_DIM + C_DIM))
    found = path_length.length(run, pixels, "c", "prior", 400, 3)
    ends = [path_length.codes(run, 3, at, "prior", 0) for at in (torch.arange(400), torch.arange(400, 800))]
    assert isinstance(run.generator, Linear)
    moves = (ends[1] - ends[0]) @ run.generator.weight[:, run.s_dim :].T / 2
    lengths = np.sort(moves.square().sum(1).double().numpy())
    assert found == pytest.approx(lengths[3:-3].mean(), rel=0.02)  # a step is 1e-4 long, in float32


def test_in_s_it_goes_along_the_arc() -> None:
    """An arc from s to s' is angle times its size long: a generator that gives s itself moves by that a step."""
    run = run_of(Linear(S_DIM + C_DIM))
    found = path_length.length(run, pixels, "s", "prior", 400, 3)
    s, end = (path_length.nuisance(run, 3, at).double() for at in (torch.arange(400), torch.arange(400, 800)))
    t = path_length.uniform(3, path_length.Purpose.PATHS, torch.arange(400), (1,)).double()
    steps = [path_length.slerp(s, end, share) for share in (t, t + 1e-4)]
    assert isinstance(run.generator, Linear)
    moves = (steps[1] - steps[0]) @ run.generator.weight[:, : run.s_dim].double().T / 2 / 1e-4
    lengths = np.sort(moves.square().sum(1).numpy())
    assert found == pytest.approx(lengths[3:-3].mean(), rel=0.02)
    sizes = [step.norm(dim=1) for step in (s, *steps, end)]
    assert ((sizes[1] - sizes[0]) * (sizes[3] - sizes[1]) >= -1e-9).all(), "its size goes evenly from one to the other"


def test_the_ends_of_the_distribution_are_left_out() -> None:
    values = torch.arange(1.0, 202.0).double()
    values[-2:] = 1e9
    assert path_length.trimmed_mean(values[torch.randperm(201)]) == pytest.approx(
        torch.arange(3.0, 200.0).mean().item()
    )


class Vgg(nn.Module):
    """Takes what the published file takes, and gives the mean of each channel."""

    def forward(self, x: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        assert return_lpips
        assert not resize_images
        return x.mean((2, 3))


def test_the_command_records_both_lengths_and_refuses_other_files(systems: dict[str, Path], tmp_path: Path) -> None:
    path, run = tmp_path / "vgg16.pt", unmeasured(systems["idgan"], tmp_path / "run")
    torch.jit.script(Vgg()).save(str(path))
    asked = ("path-length", run, "--pairs", 32, "--weights")
    found = answer(evaluate(tmp_path / "a", *asked, path))
    assert set(found["lengths"]) == {"s", "c"}
    assert all(value > 0 for value in found["lengths"].values())
    refused(evaluate(tmp_path / "b", *asked, tmp_path / "none.pt", code=2), "none.pt is not there", "vgg16.pt")
    (tmp_path / "other.pt").write_bytes(b"no network")
    refused(evaluate(tmp_path / "c", *asked, tmp_path / "other.pt", code=2), "is no TorchScript file")
    torch.jit.script(nn.ReLU()).save(str(tmp_path / "relu.pt"))
    (run / "evaluation" / "extractors.json").unlink()
    refused(evaluate(tmp_path / "d", *asked, tmp_path / "relu.pt", code=2), "is not the VGG16 of StyleGAN2-ADA")
    refused(evaluate(tmp_path / "e", "path-length", run, code=2), "--weights: is missing")


def test_all_lengths_of_a_run_are_of_one_file(systems: dict[str, Path], tmp_path: Path) -> None:
    """Which stands beside the networks of FID, in the folder of the results: RUN/evaluation, or that of --out."""
    first, second = tmp_path / "vgg16.pt", tmp_path / "other.pt"
    torch.jit.script(Vgg()).save(str(first))
    second.write_bytes(first.read_bytes() + b"\0")
    run, out = unmeasured(systems["idgan"], tmp_path / "run"), tmp_path / "out"
    recorded = run / "evaluation" / "extractors.json"
    recorded.parent.mkdir()
    recorded.write_text('{"clean": "0123"}')
    asked = ("path-length", run, "--pairs", 4, "--weights")
    found = answer(evaluate(tmp_path / "a", *asked, first))
    of_first = hashlib.sha256(first.read_bytes()).hexdigest()
    assert found["extractor"] == of_first
    assert json.loads(recorded.read_bytes()) == {"clean": "0123", "path-length": of_first}
    words = ("other.pt: sha256 is", f"first numbers of path-length are of {of_first}", f"remove {recorded}")
    refused(evaluate(tmp_path / "b", *asked, second, code=2), *words)
    refused(evaluate(tmp_path / "c", *asked, second, "--out", out, code=2), *words)
    assert len(lines(run, "path-length")) == 1
    evaluate(tmp_path / "d", *asked, first)
    assert len(lines(run, "path-length")) == 2
