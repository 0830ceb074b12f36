"""Leaks of augmentation: estimates by hand, images of which a known share is changed, and the command."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluation.factors import leaks
from tests.support.evaluating import answer, evaluate, refused
from tests.support.training import CONFIGS, finish, train
from trainer.config.schema import AdaConfig, DiffAugmentConfig

ADA = AdaConfig(transforms=("flip", "translation", "color", "cutout"))
NAMES = list(ADA.transforms)


def pictures(count: int, seed: int) -> Tensor:
    """uint8 [count, 3, 64, 64]: a lamp on the right of a blue wall, at about the same place and size in all of them."""
    noise = torch.Generator().manual_seed(seed)
    centre = torch.tensor([24.0, 42.0]) + torch.randn(count, 2, generator=noise)
    at = torch.arange(64.0)
    rows, columns = (torch.exp(-(((at - centre[:, k, None]) / 6) ** 2)) for k in (0, 1))
    lamp = (rows[:, :, None] * columns[:, None, :])[:, None] * torch.tensor([150.0, 130, -60])[:, None, None]
    wall = torch.tensor([60.0, 80, 140])[:, None, None] + torch.linspace(-20, 20, 64)[:, None]
    return (wall + lamp + torch.randn(count, 3, 64, 64, generator=noise) * 4).clamp(0, 255).to(torch.uint8)


def changed(images: Tensor, name: str, part: float) -> Tensor:
    """The first part of the images changed by one transform, by random numbers of their own."""
    changes, count = leaks.Changes(ADA, [name], 77), int(len(images) * part)
    seen = changes.by(0, images[:count].float() / 127.5 - 1, torch.arange(count))
    return torch.cat((((seen + 1) * 127.5).round().clamp(0, 255).to(torch.uint8), images[count:]))


def test_the_share_of_changed_samples_by_hand() -> None:
    found = leaks.leak(0.9, 0.1, 0.3, 400)
    error = math.sqrt((0.1 * 0.9 + 0.3 * 0.7) / 400) / 0.8
    assert (found.leak, found.error, found.is_leak) == (pytest.approx(0.25), pytest.approx(error), True)
    assert not leaks.leak(0.9, 0.1, 0.1, 400).is_leak
    assert not leaks.leak(0.9, 0.1, 0.13, 400).is_leak, "within three standard errors"
    assert leaks.leak(0.2, 0.1, 0.3, 400).leak is None, "what changed reals do not show cannot be found in samples"


@pytest.fixture(scope="module")
def detector() -> tuple[torch.nn.Module, leaks.Changes]:
    changes = leaks.Changes(ADA, NAMES, 0)
    return leaks.train(changes, pictures(600, 0), 150, 0), changes


def test_images_that_are_as_reals_show_no_leak(detector: tuple[torch.nn.Module, leaks.Changes]) -> None:
    found = leaks.shares(*detector, pictures(400, 1), pictures(400, 2))
    assert list(found) == NAMES
    for name, each in found.items():
        assert each.leak is not None, f"{name} is told apart: {each}"
        assert not each.is_leak, f"{name}: {each}"


@pytest.mark.parametrize("name", NAMES)
def test_changed_images_among_samples_are_flagged(name: str, detector: tuple[torch.nn.Module, leaks.Changes]) -> None:
    """The positive control. Of mirrored images half are as before, of moved ones one in 289."""
    found = leaks.shares(*detector, pictures(400, 1), changed(pictures(400, 2), name, 0.4))
    assert found[name].is_leak
    assert found[name].leak == pytest.approx(0.4, abs=0.12)


def test_the_command_measures_a_run_and_says_what_it_cannot(
    systems: dict[str, Path], sprites: Path, tmp_path: Path
) -> None:
    run, more = tmp_path / "run", {"augment.kind": "diffaugment"}
    finish(train("gan", sprites, run, 1, str(CONFIGS / "gan.yaml"), **more))
    found = answer(evaluate(tmp_path / "a", "leaks", run, "--samples", 64, "--iterations", 4))
    assert found["augment"]["kind"] == "diffaugment"
    assert list(found["transforms"]) == list(DiffAugmentConfig().transforms)
    refused(evaluate(tmp_path / "b", "leaks", systems["gan"], code=2), "was trained without `augment`", "--augment ada")
    refused(evaluate(tmp_path / "c", "leaks", systems["factor_vae"], code=2), "a run of stage 1")
