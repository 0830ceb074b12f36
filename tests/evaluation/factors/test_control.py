"""What c and s control, against closed forms, loops and generators whose causes are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pvariance
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.arrays import Float64
from common.random_numbers import Purpose, normal
from data_shards.sources.sprites.renderer import Factors, render, render_factors
from evaluation.factors import control as module
from evaluation.factors import latents
from evaluation.factors.control import Shares, control, shares
from evaluation.factors.factor_network import load_factor_extractor, sprite_colour
from evaluation.inputs.run import Run
from tests.support import processes
from tests.support.evaluating import answer, lines, quickly, refused, self_contained, unmeasured
from tests.support.training import finish
from trainer.config.schema import GanConfig

EXTRACTOR = load_factor_extractor()
S_DIM, C_DIM, SEED = 3, 2, 5
A, B = np.array([0.3, -1.0, 2.0, 0.7, 4.0]), np.array([1.5, -0.2, 0.9])


def by_loops(values: Float64) -> tuple[float, float]:
    """The definition, a pair at a time. values: [C, S]."""
    codes, vectors = values.shape
    total = pvariance([values[i, j] for i in range(codes) for j in range(vectors)])
    within_c = fmean(pvariance([values[i, j] for j in range(vectors)]) for i in range(codes))
    within_s = fmean(pvariance([values[i, j] for i in range(codes)]) for j in range(vectors))
    return 1 - within_c / total, 1 - within_s / total


def test_a_sum_is_shared_like_its_variances() -> None:
    found = shares(A[:, None] + B[None])
    assert found.c == pytest.approx(A.var() / (A.var() + B.var()))
    assert found.s == pytest.approx(B.var() / (A.var() + B.var()))
    assert found.std == pytest.approx((A.var() + B.var()) ** 0.5)


def test_a_function_of_one_argument_is_all_of_that_argument() -> None:
    assert shares(np.tile(A[:, None], 3)) == Shares(pytest.approx(1), pytest.approx(0, abs=1e-12), A.std())
    assert shares(np.tile(B, (5, 1))) == Shares(pytest.approx(0, abs=1e-12), pytest.approx(1), B.std())


def test_a_product_of_centred_functions_is_all_interaction_and_of_others_in_part() -> None:
    centred = shares(np.outer(A - A.mean(), B - B.mean()))
    assert centred.c == pytest.approx(0, abs=1e-12)
    assert centred.s == pytest.approx(0, abs=1e-12)
    values = np.outer(A, B)
    found, total = shares(values), values.var()
    assert (found.c, found.s) == (
        pytest.approx(A.var() * B.mean() ** 2 / total),
        pytest.approx(B.var() * A.mean() ** 2 / total),
    )
    assert (found.c, found.s) == pytest.approx(by_loops(values))


def test_it_equals_the_definition_by_loops() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 9)) + 2 * rng.normal(size=(6, 1)) + rng.normal(size=9)
    found = shares(values)
    assert (found.c, found.s) == pytest.approx(by_loops(values))
    assert found.std == pytest.approx(pvariance(values.flatten()) ** 0.5)


def test_components_are_summed_by_their_variances() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(6, 9, 3)) * [1, 5, 0.1] + rng.normal(size=(6, 1, 3))
    variances = values.var((0, 1))
    parts = np.array([by_loops(values[..., k]) for k in range(3)])
    found = shares(values)
    assert (found.c, found.s) == pytest.approx(tuple(variances @ parts / variances.sum()))
    assert found.std == pytest.approx(variances.sum() ** 0.5)


def test_what_does_not_vary_has_no_share() -> None:
    assert shares(np.full((4, 5), 0.7)) == Shares(None, None, pytest.approx(0, abs=1e-12))
    jitter = np.where(np.arange(20).reshape(4, 5) % 2, 1.0, -1.0)
    assert shares(0.5 + 0.9e-4 * jitter).c is None
    assert shares(0.5 + 1.1e-4 * jitter).c is not None


def test_noise_of_neither_has_about_one_in_the_grid_in_each() -> None:
    found = [shares(np.random.default_rng(i).normal(size=(64, 64))) for i in range(40)]
    assert fmean(f.c or 0 for f in found) == pytest.approx(1 / 64, rel=0.1)
    assert fmean(f.s or 0 for f in found) == pytest.approx(1 / 64, rel=0.1)


class Painter(nn.Module):
    """G([s, c]) draws a square at the place that c says in the colour that s says, or the other way round.

    shapes: the sign of the last entry of s chooses between square and heart, the size too.
    """

    def __init__(self, size: int = 64, swapped: bool = False, shapes: bool = False, channels: int = 3) -> None:
        super().__init__()
        self.resolution, self.swapped, self.shapes, self.channels = size, swapped, shapes, channels
        self.seen: list[Tensor] = []

    def forward(self, z: Tensor) -> Tensor:
        self.seen.append(z)
        s, c = z[:, :S_DIM], z[:, S_DIM:]
        place, paint = (s[:, :C_DIM], torch.cat((c, c[:, :1]), 1)) if self.swapped else (c, s)
        x, y = place.sigmoid().double().numpy().T
        heart = (s[:, -1] > 0).numpy() & self.shapes
        factors = Factors(2 * heart.astype(np.int64), np.where(heart, 1.0, 0.6), np.zeros(len(z)), x, y)
        alpha = torch.from_numpy(render_factors(factors, self.resolution))[:, None].float()
        alpha = alpha if self.resolution == 64 else alpha / 255
        return alpha * colour_of(paint)[:, : self.channels, None, None] * 2 - 1


def colour_of(paint: Tensor) -> Tensor:
    """[B, 3] in (0.4, 1)."""
    return 0.4 + 0.6 * paint.sigmoid()


def run_of(generator: nn.Module, variant: str = "color") -> Run:
    """A run whose codes are N(0, I)."""
    settings = {
        **{"data": {"path": "data"}, "schedule": {"total_kimg": 1}, "c_dim": C_DIM, "s_dim": S_DIM},
        **{"code_source": "prior", "code_loss": "info", "optimizer_q": {"name": "rmsprop", "lr": 1e-3}},
    }
    data: Any = SimpleNamespace(main=SimpleNamespace(manifest=SimpleNamespace(data_set="dsprites")), variant=variant)
    config = GanConfig.model_validate(settings)
    return Run(Path("run"), Path("step"), {}, config, data, generator, None, None, None, None, {})


def measured(generator: nn.Module, variant: str = "color", grid: int = 24) -> dict[str, Shares]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GRID", grid)
        return control(run_of(generator, variant), EXTRACTOR, "prior", SEED)


def test_a_generator_with_the_place_in_c_and_the_colour_in_s() -> None:
    found = measured(Painter())
    assert list(found) == ["x", "y", "scale", "shape", "red", "green", "blue"]
    for name in ("x", "y"):
        assert (found[name].c or 0) > 0.99
        assert (found[name].s or 0) < 0.005
    for name in ("red", "green", "blue"):
        assert (found[name].s or 0) > 0.999
        assert (found[name].c or 0) < 1e-4
    at = torch.arange(24)
    place = normal(SEED, Purpose.EVAL_CODE, at, (C_DIM,)).sigmoid().double().numpy()
    paint = colour_of(normal(SEED, Purpose.EVAL_NUISANCE, at, (S_DIM,))).double().numpy()
    for k, name in enumerate(("x", "y")):
        assert found[name].std == pytest.approx(place[:, k].std(), rel=0.03)
    for k, name in enumerate(("red", "green", "blue")):
        assert found[name].std == pytest.approx(paint[:, k].std(), rel=0.01)


def test_a_generator_with_the_place_in_s_and_the_colour_in_c() -> None:
    found = measured(Painter(swapped=True))
    for name in ("x", "y"):
        assert (found[name].s or 0) > 0.99
        assert (found[name].c or 0) < 0.005
    for name in ("red", "green", "blue"):
        assert (found[name].c or 0) > 0.999
        assert (found[name].s or 0) < 1e-4


def test_shape_and_size_in_s() -> None:
    found = measured(Painter(shapes=True))
    for name in ("scale", "shape"):
        assert (found[name].s or 0) > 0.95
        assert (found[name].c or 0) < 0.02
    hearts = (normal(SEED, Purpose.EVAL_NUISANCE, torch.arange(24), (S_DIM,))[:, -1] > 0).double().numpy()
    assert found["shape"].std == pytest.approx((2 * hearts.var()) ** 0.5, rel=0.05), "p(square) and p(heart)"
    assert found["scale"].std == pytest.approx(0.4 * hearts.std(), rel=0.1)


def test_large_images_are_looked_at_as_their_box_means() -> None:
    """The soft edges of a sprite are part of it: its place moves the mean colour a little."""
    small, large = measured(Painter(), grid=8), measured(Painter(256), grid=8)
    for name in ("x", "y", "red", "green", "blue"):
        one, other = (tuple(found[name]) for found in (large, small))
        assert one == pytest.approx(other, abs=0.03)


def test_a_large_image_and_its_box_mean_read_the_same() -> None:
    images = torch.randint(0, 256, (3, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    means = (images.double().unflatten(3, (64, 2)).unflatten(2, (64, 2)).mean((3, 5)) + 0.5).floor().byte()
    large, small = (EXTRACTOR.readings(i, "plain") for i in (images, means))
    for name, value in large.items():
        torch.testing.assert_close(value, small[name])


def test_every_code_meets_every_s_once() -> None:
    painter = Painter()
    assert module.GRID == 64
    measured(painter, grid=6)
    at = torch.arange(6)
    c, s = normal(SEED, Purpose.EVAL_CODE, at, (C_DIM,)), normal(SEED, Purpose.EVAL_NUISANCE, at, (S_DIM,))
    pairs = [tuple(row.tolist()) for row in torch.cat(painter.seen)]
    assert sorted(pairs) == sorted((*one.tolist(), *code.tolist()) for code in c for one in s)


def test_collapsed_latents_of_c_count_as_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here x comes from a latent that is collapsed, y from one that is not."""
    monkeypatch.setattr(module, "collapsed", lambda run, seed: [0])
    found = measured(Painter())
    assert (found["x"].s or 0) > 0.99
    assert (found["y"].c or 0) > 0.99


def test_a_latent_is_collapsed_where_its_posterior_is_the_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(Painter())
    assert module.collapsed(run, 0) == []
    monkeypatch.setattr(module, "kl", lambda run, seed: torch.tensor([0.0, 0.5, 0.009, 0.011]))
    assert module.collapsed(replace(run, q=Any), 0) == [0, 2]


def test_what_the_means_hold_is_a_regression_on_held_out_reals() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 3, generator=generator).double()
    noise = torch.randn(4000, 2, generator=generator).double()
    y = x[:, :2] * torch.tensor([2.0, 1.0]) + noise * torch.tensor([0.0, 1.0])
    share = latents.predicted_share(x, y)
    assert 5 / 6 - 0.06 < share < 5 / 6 + 0.02  # variances 4 and 1 of 4 and 2; trees are a little below the best
    assert latents.predicted_share(x, noise) == 0.0
    winding = torch.stack((x[:, 0].mul(2).cos(), x[:, 0].mul(2).sin()), 1)
    assert latents.predicted_share(x, winding) > 0.95
    assert latents.predicted_share(x, torch.ones(4000, 1).double()) == 0.0


def test_grey_sprites_have_a_brightness_and_other_backgrounds_no_colour() -> None:
    grey = measured(Painter(channels=1), "plain", grid=8)
    assert list(grey)[3:] == ["shape", "brightness"]
    assert (grey["brightness"].s or 0) > 0.999
    for variant in ("noisy", "scream"):
        assert list(measured(Painter(), variant, grid=4)) == ["x", "y", "scale", "shape"]


def test_the_colour_is_the_mean_over_what_is_brighter_than_half() -> None:
    images = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    images[0, :, 10:20, 10:30] = torch.tensor([200, 100, 40], dtype=torch.uint8)[:, None, None]
    images[0, :, 20:30, 10:30] = 90  # a dim neighbour, below half of 200
    images[1, 0, 5:15, 5:15], images[1, 2, 15:25, 5:15] = 255, 255  # half red, half blue
    images[3] = 255
    expected = [[200, 100, 40], [127.5, 0, 127.5], [0, 0, 0], [255, 255, 255]]
    torch.testing.assert_close(sprite_colour(images), torch.tensor(expected) / 255)


def test_the_factors_are_kept_within_what_can_be_drawn() -> None:
    noise = torch.randint(0, 256, (40, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sprites = torch.from_numpy(render(np.arange(0, 700_000, 20_000)))[:, None].expand(-1, 3, -1, -1) * 255
    found = EXTRACTOR.readings(torch.cat((noise, sprites)), "plain")
    for name, low in (("x", 0), ("y", 0), ("scale", 0.5)):
        assert float(found[name].min()) >= low
        assert float(found[name].max()) <= 1
    torch.testing.assert_close(found["shape"].sum(1), torch.ones(len(found["x"])))


def test_the_command_prints_a_table_keeps_a_record_and_the_page_shows_it(
    systems: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "idgan"
    unmeasured(systems["idgan"], run)
    first, again, other, prior = (
        finish(quickly(tmp_path / "logs", "control", run, *argv))
        for argv in ((), (), ("--seed", 1), ("--codes", "prior"))
    )
    record = answer(first)
    assert (record["command"], record["codes"], record["seed"], record["grid"]) == ("control", "posterior", 0, [8, 8])
    assert list(record["factors"]) == ["x", "y", "scale", "shape", "brightness"]
    for found in record["factors"].values():
        assert (found["c"] is None) == (found["s"] is None) == (found["std"] < 1e-4)
        assert found["c"] is None or 0 <= found["c"] + found["s"] <= 1 + 1e-9
    assert answer(again)["factors"] == record["factors"]
    assert answer(other)["factors"] != record["factors"]
    assert answer(prior)["codes"] == "prior"
    assert answer(prior)["factors"] != record["factors"]
    assert json.loads(lines(run, "control")[0]) == record
    for word in ("share of c", "share of s", "total std", "brightness", "0.5 to 1", "codes: posterior"):
        assert word in first.out
    text = Path(answer(finish(quickly(tmp_path / "logs", "report", run)))["page"]).read_text()
    assert "<h2>What c controls, and what s</h2>" in text
    for row in module.table_rows(answer(prior)):  # the newest
        assert "".join(f"<td>{cell}</td>" for cell in row) in text
    assert "8 codes x 8 nuisance vectors" in text
    assert "Codes: prior." in text
    assert f"Network {record['extractor'][:12]}." in text
    assert "python -m evaluation control" in text
    assert self_contained(text)


def test_a_factor_that_does_not_vary_is_called_constant() -> None:
    record: dict[str, Any] = {
        "factors": {"x": Shares(None, None, 0.00002)._asdict(), "scale": Shares(0.25, 0.5, 0.1)._asdict()}
    }
    assert module.table_rows(record) == [  # as of version 0.2.0, without R^2 of the means
        ["x", "", "constant", "constant", "0.000", "0 to 1"],
        ["scale", "", "25.0%", "50.0%", "0.100", "0.5 to 1"],
    ]
    assert module.table_rows(record | {"means_r2": {"x": 0.8125}})[0][1] == "0.812"


@pytest.mark.parametrize(
    ("system", "argv", "words"),
    [
        ("cgan", (), ("s_dim is 0", "c controls everything", "name a run with s_dim > 0")),
        ("gan", (), ("a GAN without a code", "s controls everything", "name a run of another system")),
        ("gan", ("--codes", "prior"), ("a GAN without a code",)),
        ("factor_vae", (), ("is a run of stage 1", "name a run of stage 2")),
    ],
)
def test_a_run_without_c_or_s_is_refused(
    system: str, argv: tuple[str, ...], words: tuple[str, ...], systems: dict[str, Path], tmp_path: Path
) -> None:
    run = systems[system]
    refused(processes.command("evaluation", ("control", run, *argv), tmp_path), run, *words)
    assert not lines(run, "control")
