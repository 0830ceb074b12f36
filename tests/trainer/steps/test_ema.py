"""Averages of the generator against brute-force sums, alone and in the trainer."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn

from tests.reference import plain
from tests.support.training import CONFIGS, finish, tensors, train
from trainer import preflight
from trainer.config.load import load_config
from trainer.config.schema import GanConfig
from trainer.config.sections import DecayAverage, EmaConfig, HalfLifeAverage, PowerAverage
from trainer.steps import ema, networks
from trainer.steps.schedule import Now

THREE = [{"decay": 0.9}, {"half_life_kimg": 0.03}, {"sigma_rel": 0.1}]
BATCHES = [4] * 50 + [7] * 30 + [16] * 40  # over the phases of a growth


def walk(averages: list[Any], batches: list[int] = BATCHES) -> tuple[np.ndarray, list[np.ndarray]]:
    """A random walk of three weights from 1 in float64 and what each average made of it: [T, 3], then [3] for each."""
    noise, network = torch.Generator().manual_seed(3), nn.Linear(3, 1, bias=False).double()
    nn.init.ones_(network.weight)
    kept = plain.averages_of(network, EmaConfig(averages=averages).averages)
    seen, iterates = 0, []
    for batch in batches:
        with torch.no_grad():
            network.weight += torch.randn(1, 3, generator=noise, dtype=torch.float64)
        seen += batch
        kept.update(seen, batch)
        iterates.append(network.weight.detach().numpy()[0].copy())
    return np.stack(iterates), [average.weight.numpy()[0] for average in map(kept.network, kept.settings)]


@pytest.mark.parametrize("sigma_rel", [0.001, 0.01, 0.05, 0.1, 0.2, 0.28])
def test_gamma_gives_its_profile_the_relative_width(sigma_rel: float) -> None:
    """The standard deviation of p on [0, 1], integrated."""
    gamma = ema.gamma(sigma_rel)
    near = max(0.0, 1 - 30 * sigma_rel)  # where the mass is

    def moment(k: int) -> float:
        return quad(lambda u: u**k * (gamma + 1) * u**gamma, near, 1, epsabs=1e-14)[0]

    assert moment(0) == pytest.approx(1, abs=1e-9)
    assert np.sqrt(moment(2) - moment(1) ** 2) == pytest.approx(sigma_rel, rel=1e-6)


@pytest.mark.parametrize("sigma_rel", [0.02, 0.1, 0.28])
def test_a_power_average_weighs_every_iterate_by_the_integral_of_the_profile(sigma_rel: float) -> None:
    """Also where the batch size changes; and by the profile's value there within the error of the steps."""
    iterates, (found,) = walk([PowerAverage(sigma_rel=sigma_rel)])
    ends = np.cumsum(BATCHES)
    end, gamma = ends[-1], ema.gamma(sigma_rel)

    def profile(tau: float) -> float:
        return (gamma + 1) / end * (tau / end) ** gamma

    over = np.array([quad(profile, b - n, b)[0] for b, n in zip(ends, BATCHES, strict=True)])
    np.testing.assert_allclose(found, over @ iterates, rtol=1e-9)
    coarse = np.array([profile(b - n / 2) * n for b, n in zip(ends, BATCHES, strict=True)])
    assert np.linalg.norm(found - coarse @ iterates) < 0.03 * np.linalg.norm(found)


def test_a_power_average_is_its_recursion_and_begins_with_a_copy() -> None:
    iterates, (found,) = walk([PowerAverage(sigma_rel=0.1)])
    seen, expected = 0, np.full(3, np.nan)
    for weights, batch in zip(iterates, BATCHES, strict=True):
        seen += batch
        keep = (1 - batch / seen) ** (ema.gamma(0.1) + 1)
        expected = weights if keep == 0 else keep * expected + (1 - keep) * weights
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    iterates, (first,) = walk([PowerAverage(sigma_rel=0.1)], BATCHES[:1])
    assert (first == iterates[0]).all()


def test_the_papers_decay_counts_iterations_whatever_the_batch_size() -> None:
    iterates, (found,) = walk([DecayAverage(decay=0.9)])
    powers = 0.9 ** np.arange(len(BATCHES))[::-1]
    np.testing.assert_allclose(found, 0.1 * powers @ iterates + 0.9 ** len(BATCHES), rtol=1e-12)
    assert (walk([DecayAverage(decay=0)])[1][0] == iterates[-1]).all()


@pytest.mark.parametrize("batches", [[10] * 50, [10] * 20 + [30] * 10, [1, 499], [500]])
def test_after_a_half_life_what_was_counts_half(batches: list[int]) -> None:
    """0.5 kimg in other steps: the average of a network that jumps from 0 to 1 and stays is 1/2."""
    network = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(network.weight)
    averages = plain.averages_of(network, [HalfLifeAverage(half_life_kimg=0.5)])
    nn.init.ones_(network.weight)
    for i, batch in enumerate(batches):
        averages.update(10_000 + sum(batches[: i + 1]), batch)
    assert float(averages.network().weight) == pytest.approx(0.5, rel=1e-12)


def test_several_at_once_are_each_alone() -> None:
    _, together = walk(THREE)
    for setting, found in zip(THREE, together, strict=True):
        assert (walk([setting])[1][0] == found).all()
    assert len({tuple(found) for found in together}) == 3


def test_names_are_stable_and_readable() -> None:
    averages = [{"decay": 0.999}, {"half_life_kimg": 10}, {"half_life_kimg": 2.5}, {"sigma_rel": 0.10}]
    names = [average.name for average in EmaConfig.model_validate({"averages": averages}).averages]
    assert names == ["decay_0.999", "half_life_10kimg", "half_life_2.5kimg", "sigma_rel_0.1"]


def test_layers_that_have_not_moved_are_copied_by_every_average() -> None:
    """16 px blocks in 4 px iterations: bit for bit the network's, while the active ones are averaged."""
    config = plain.grown_config("ID-GAN", ema={"averages": THREE}, precision="float32")
    G = networks.generator(config, 1)
    averages = plain.averages_of(G, config.ema.averages)
    for i in range(40):
        with torch.no_grad():
            for name, parameter in G.named_parameters():
                if ".16" not in name:
                    parameter += torch.randn_like(parameter)
        averages.update(8 * (i + 1), 8)
    for average in map(averages.network, averages.settings):
        for (name, parameter), own in zip(G.named_parameters(), average.parameters(), strict=True):
            assert torch.equal(parameter, own) == (".16" in name), name


def test_samples_use_the_first_average(sprites: Path) -> None:
    over = [f"data.path={sprites}", "ema.averages=[{sigma_rel: 0.1}, {decay: 0.9}]"]
    stage = preflight.gan_stage(load_config(GanConfig, CONFIGS / "gan.yaml", over), plain.ALONE)
    now, (first, second) = Now(64, 16, None), map(stage.averages.network, stage.averages.settings)
    before = stage.samples(now)
    assert float(before.float().std()) > 0
    for network, changes in ((second, False), (stage.averages.engine.network, False), (first, True)):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.1
        assert torch.equal(before, stage.samples(now)) != changes


def test_a_grid_of_large_images_is_made_few_at_a_time(sprites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the first grid at 1024 px would need more memory than the training."""
    stage = preflight.gan_stage(load_config(GanConfig, CONFIGS / "gan.yaml", [f"data.path={sprites}"]), plain.ALONE)
    passes: list[int] = []
    average = type(stage.averages.network())
    real = average.forward

    def counting(self: Any, z: Tensor, *more: Any) -> Tensor:
        passes.append(len(z))
        return real(self, z, *more)

    monkeypatch.setattr(average, "forward", counting)
    whole = stage.samples(Now(64, 16, None))
    assert (whole.dtype, whole.device.type, tuple(whole.shape), passes) == (torch.uint8, "cpu", (64, 1, 64, 64), [64])
    monkeypatch.setattr("models.image_chunks.PX_PER_CHUNK", 5 * 64**2)
    passes.clear()
    few = stage.samples(Now(64, 16, None))
    assert passes == [5] * 12 + [4]
    assert (few.int() - whole.int()).abs().max() <= 1


def test_the_trainer_averages_by_its_clock_and_its_batch_size(sprites: Path, vae: Path, tmp_path: Path) -> None:
    """An iteration of 16 at 32 px, then two of 8 at 64 px, from the checkpoints after each."""
    shape = {"network": "{name: resnet, nf: 2, nf_max: 8}", "s_dim": 2, "ema__averages": str(THREE)}
    growth = "{start_resolution: 32, phase_kimg: 0.016, fade_kimg: 0.1, batch_size: {64: 8}}"
    more = shape | {"growth": growth, "schedule__save_kimg": 0.008, "schedule__keep_last": 9}
    finish(train("gan", sprites, tmp_path / "run", 2, vae=vae, **more))
    steps = {n: tensors(tmp_path / "run" / "checkpoints" / f"step-{n:012d}") for n in (16, 24, 32)}
    names = [name.removeprefix("generator.") for name in steps[16] if name.startswith("generator.")]
    for name in names:
        assert torch.equal(steps[16][f"ema.sigma_rel_0.1.{name}"], steps[16][f"generator.{name}"]), (
            "the first is a copy"
        )
    gamma = ema.gamma(0.1)
    betas = {"decay_0.9": lambda t: 0.9, "half_life_0.03kimg": lambda t: 0.5 ** (8 / 30)}
    betas["sigma_rel_0.1"] = lambda t: ((t - 8) / t) ** (gamma + 1)
    for (average, beta), (before, after) in itertools.product(betas.items(), ((16, 24), (24, 32))):
        for name in names:
            old, weights = steps[before][f"ema.{average}.{name}"], steps[after][f"generator.{name}"]
            expected = beta(after) * old.double() + (1 - beta(after)) * weights.double()
            found = steps[after][f"ema.{average}.{name}"].double()
            assert torch.allclose(found, expected, rtol=1e-6, atol=1e-8), (average, after, name)
        moved = [float((steps[after][f"generator.{n}"] - steps[before][f"generator.{n}"]).abs().max()) for n in names]
        assert max(moved) > 1e-4
