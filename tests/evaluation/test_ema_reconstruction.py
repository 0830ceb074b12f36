"""Reconstruction of averages after the run, against integrals and brute-force averages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.integrate import quad
from torch import nn

from common.errors import UserError
from evaluation.ema_reconstruction import Profile, fit, inner, reconstruct
from evaluation.inputs.run import Run
from tests.reference import plain
from trainer.checkpoints import ema_snapshots
from trainer.config.settings import fixed
from trainer.steps import ema

WIDTHS = (0.05, 0.1)
BATCHES = [8] * 200 + [20] * 160  # in 36 snapshots
CONFIG = plain.gan_config(
    "GAN", ema={"averages": [{"sigma_rel": s} for s in WIDTHS], "snapshot_kimg": sum(BATCHES) / 36_000}
)


def profiles(times: list[float], widths: list[float]) -> Profile:
    return Profile(np.array(times, np.float64), np.array([ema.gamma(s) for s in widths]))


@pytest.mark.parametrize(("a", "b"), [((900, 0.05), (1000, 0.2)), ((700, 0.28), (300, 0.01)), ((5e7, 0.1), (5e7, 0.1))])
def test_inner_products_are_the_integrals(a: tuple[float, float], b: tuple[float, float]) -> None:
    (ta, sa), (tb, sb) = a, b
    ga, gb, end = ema.gamma(sa), ema.gamma(sb), min(ta, tb)

    def both(u: float) -> float:
        """At tau = end * u, so that nothing is smaller than quad's tolerance."""
        tau = end * u
        return end * (ga + 1) / ta * (tau / ta) ** ga * (gb + 1) / tb * (tau / tb) ** gb

    expected = quad(both, 0, 1, epsabs=0, epsrel=1e-11, points=[0.8, 0.95])[0]
    found = inner(profiles([ta], [sa]), profiles([tb], [sb]))
    assert found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(expected, rel=1e-9)


def test_the_residual_is_that_of_the_functions_and_the_fit_the_best_with_sum_one() -> None:
    stored = profiles([400, 400, 700, 700, 1000, 1000], [0.05, 0.1] * 3)
    wanted = profiles([1000], [0.15])
    weights, (residual,) = fit(stored, wanted)

    def distance(w: np.ndarray) -> float:
        tau = (np.arange(200_000) + 0.5) / 200
        made = sum(
            v * (g + 1) / t * np.where(tau <= t, tau / t, 0) ** g
            for v, t, g in zip(w, stored.t, stored.gamma, strict=True)
        )
        target = (wanted.gamma[0] + 1) / 1000 * (tau / 1000) ** wanted.gamma[0]
        return float(np.linalg.norm(made - target) / np.linalg.norm(target))

    best = distance(weights[:, 0])
    assert residual == pytest.approx(best, rel=1e-3)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    dice = np.random.default_rng(0)
    for _ in range(20):
        step = dice.normal(size=6) * 0.05
        assert distance(weights[:, 0] + step - step.mean()) > best


class Tiny(nn.Module):
    """40 weights that move, and 5 that no step moves."""

    def __init__(self) -> None:
        super().__init__()
        self.moves, self.rests = nn.Parameter(torch.zeros(40)), nn.Parameter(torch.linspace(1, 2, 5))


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, np.ndarray]:
    """A folder with the snapshots of 360 iterates, and the iterates [360, 40]: a walk that turns round slowly."""
    run, network, noise = tmp_path_factory.mktemp("walk"), Tiny(), torch.Generator().manual_seed(0)
    averages = plain.averages_of(network, CONFIG.ema.averages)
    stored = ema_snapshots.Snapshots(averages, CONFIG.ema)
    manifest = {"config": fixed(CONFIG), "facts": {"data": "x"}}
    seen, iterates = 0, []
    for batch in BATCHES:
        with torch.no_grad():
            network.moves += torch.randn(40, generator=noise)
        before, seen = seen, seen + batch
        averages.update(seen, batch)
        iterates.append(network.moves.detach().double().numpy().copy())
        if seen // stored.every > before // stored.every:
            who = ema_snapshots.identity(manifest["config"], manifest["facts"])
            stored.write(run, seen, {"resolution": 64}, who, plain.ALONE)
    generator = nn.Module()
    generator.network = Tiny()
    made = Run(run, run, manifest, CONFIG, None, generator, None, None, None, None, {})
    return made, np.stack(iterates)


def brute(iterates: np.ndarray, sigma_rel: float, end: int | None = None) -> np.ndarray:
    """The average of all iterates by the integrals of the profile, up to `end` images."""
    ends = np.cumsum(BATCHES)
    count = len(ends) if end is None else int((ends <= end).sum())
    edges = np.concatenate([[0], ends[:count]]) / ends[count - 1]
    return np.diff(edges ** (ema.gamma(sigma_rel) + 1)) @ iterates[:count]


@pytest.mark.parametrize("sigma_rel", WIDTHS)
def test_a_stored_width_comes_out_as_it_was_stored(
    sigma_rel: float, walk: tuple[Run, np.ndarray], tmp_path: Path
) -> None:
    run, iterates = walk
    record = reconstruct(run, sigma_rel, None, tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    kept = load_file(run.path / "ema" / ema_snapshots.name_of(sum(BATCHES), f"sigma_rel_{sigma_rel}"))
    assert record["residual"] < 1e-6
    for name, tensor in kept.items():
        assert torch.allclose(found[name], tensor, rtol=1e-6, atol=1e-6)
        assert found[name].dtype == torch.float32
    scale = np.linalg.norm(brute(iterates, sigma_rel))
    assert np.linalg.norm(found["moves"].numpy() - brute(iterates, sigma_rel)) < 1e-5 * scale
    largest = record["weights"]["largest"][0]
    assert largest["file"] == ema_snapshots.name_of(sum(BATCHES), f"sigma_rel_{sigma_rel}")
    assert largest["weight"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("sigma_rel", [0.04, 0.06, 0.075, 0.09, 0.15, 0.2])
def test_a_width_that_was_not_stored_is_near_its_brute_force_average(
    sigma_rel: float, walk: tuple[Run, np.ndarray], tmp_path: Path
) -> None:
    """Within 4 % of how far it lies from the nearest stored one."""
    run, iterates = walk
    record = reconstruct(run, sigma_rel, None, tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")["moves"].numpy()
    exact = brute(iterates, sigma_rel)
    apart = min(float(np.linalg.norm(brute(iterates, s) - exact)) for s in WIDTHS)
    assert np.linalg.norm(found - exact) < 0.04 * apart
    assert 0 < record["residual"] < 0.02
    assert record["weights"]["sum"] == pytest.approx(1, abs=1e-9)
    assert record["snapshots"] == 72
    assert record["stored"] == [0.05, 0.1]


def test_an_earlier_end_uses_nothing_that_came_later(walk: tuple[Run, np.ndarray], tmp_path: Path) -> None:
    run, iterates = walk
    times = sorted({int(path.name[:12]) for path in ema_snapshots.files(run.path)})
    at = times[20]
    record = reconstruct(run, 0.07, at, tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")["moves"].numpy()
    exact = brute(iterates, 0.07, at)
    assert np.linalg.norm(found - exact) < 0.005 * np.linalg.norm(exact)
    assert (record["at"], record["snapshots"]) == (at, 42)


def test_what_no_step_moved_is_itself(walk: tuple[Run, np.ndarray], tmp_path: Path) -> None:
    for sigma_rel in (0.04, 0.07, 0.2):
        reconstruct(walk[0], sigma_rel, None, tmp_path / "x.safetensors")
        found = load_file(tmp_path / "x.safetensors")["rests"]
        assert torch.allclose(found, Tiny().rests, rtol=2e-7, atol=0)


def test_what_cannot_be_reconstructed(walk: tuple[Run, np.ndarray], tmp_path: Path) -> None:
    made, _ = walk
    last = sum(BATCHES)
    for width in (0.0, -0.1, 0.281, float("nan")):
        with pytest.raises(UserError, match=r"--sigma-rel: .* is no width; choose one above 0 and up to 0\.28"):
            reconstruct(made, width, None, tmp_path / "x")
    with pytest.raises(
        UserError, match=r"too far from what 72 snapshots .*residual \d\d%, at most 10%\); choose one"
    ) as e:
        reconstruct(made, 0.005, None, tmp_path / "x")
    low, high = (float(word) for word in str(e.value).split("choose one from ")[1].split(",")[0].split(" to "))
    assert 0.01 < low < 0.04
    assert 0.2 < high < 0.28
    for width in (low * 1.03, high * 0.97):
        assert reconstruct(made, width, None, tmp_path / "y")["residual"] <= 0.1
    for at in (last + 8, 9):
        with pytest.raises(UserError, match=f"--at: {at}: no snapshot was written there, and the last one at {last}"):
            reconstruct(made, 0.07, at, tmp_path / "x")
    first = ema_snapshots.files(made.path)[0]
    kept = {path: path.read_bytes() for path in ema_snapshots.files(made.path)}
    for out, at in ((first, None), (first.resolve(), None), (first.parent / ".." / "ema" / first.name, None)):
        with pytest.raises(UserError, match="is a snapshot, which is never replaced"):
            reconstruct(made, 0.07, at, out)
    later, earlier = ema_snapshots.files(made.path)[-1], sorted({int(p.name[:12]) for p in kept})[-2]
    with pytest.raises(UserError, match="is a snapshot, which is never replaced"):
        reconstruct(made, 0.07, earlier, later)
    strangers = [tmp_path / "theirs.safetensors.tmp", first.parent / "theirs.safetensors.tmp"]
    for path in strangers:
        path.write_bytes(b"in progress")
    reconstruct(made, 0.07, None, tmp_path / "z.safetensors")
    assert all(path.exists() for path in strangers)
    assert kept == {path: path.read_bytes() for path in ema_snapshots.files(made.path)}
    assert not (tmp_path / "x").exists()
