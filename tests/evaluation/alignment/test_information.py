"""R in nats against a mixture of torch.distributions, and against generators whose R has a closed form."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from evaluation import measure
from evaluation.alignment import information as informations
from evaluation.alignment.information import entropy_of_prior, information, log_aggregated
from evaluation.inputs.choices import Codes
from evaluation.inputs.results import Results
from evaluation.inputs.run import Run
from evaluation.records import measurements

SIGMA, SCALE = 0.2, 4.0  # of q; c is SCALE times a pixel in [-1, 1]
LOG_SIGMA = math.log(2 * math.pi * SIGMA**2) / 2
COUNT, SAMPLES, SEED = 300, 300, 5


def posteriors(count: int, dims: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(count, dims, generator=generator, dtype=torch.double),
        torch.randn(count, dims, generator=generator, dtype=torch.double) - 2,
    )


def samples(means: Tensor, logvars: Tensor) -> Tensor:
    return means + (logvars / 2).exp() * torch.randn(means.shape, generator=torch.Generator().manual_seed(1)).double()


def mixture(means: Tensor, logvars: Tensor) -> MixtureSameFamily:
    parts = Independent(Normal(means, (logvars / 2).exp()), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(means)).double()), parts)


def test_of_all_images_the_aggregated_posterior_is_their_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informations, "_AT_ONCE", 7 * 40)  # in several parts
    means, logvars = posteriors(40, 3)
    c = samples(means, logvars)[:25]
    np.testing.assert_allclose(log_aggregated(c, means, logvars, 40), mixture(means, logvars).log_prob(c), atol=1e-12)


def test_of_some_images_the_own_posterior_has_its_own_weight() -> None:
    means, logvars = posteriors(12, 2)
    c = samples(means, logvars)
    for i, found in enumerate(log_aggregated(c, means, logvars, 1000)):
        others = [j for j in range(12) if j != i]
        own = Independent(Normal(means[i], (logvars[i] / 2).exp()), 1).log_prob(c[i]).exp()
        rest = mixture(means[others], logvars[others]).log_prob(c[i]).exp()
        assert found == pytest.approx(math.log(own / 1000 + rest * 999 / 1000), abs=1e-9)


def test_of_one_posterior_that_all_images_share_the_entropy_is_a_gaussians() -> None:
    logvars = torch.tensor([[-3.0, 0.5]]).double().expand(1500, 2)
    means = torch.ones(1500, 2).double()
    found = informations.estimate(-log_aggregated(samples(means, logvars), means, logvars, 1500))
    truth = Normal(means[0], (logvars[0] / 2).exp()).entropy().sum()
    assert found.mean == pytest.approx(float(truth), abs=4 * found.error)
    assert found.error == pytest.approx(1 / math.sqrt(1500), rel=0.1)  # the variance of a 2-D Gaussian's log density


def test_the_entropy_of_the_prior_is_exact() -> None:
    truth = Normal(torch.zeros(7).double(), 1).entropy().sum()
    assert entropy_of_prior(7) == (pytest.approx(float(truth), abs=1e-12), 0.0)


class Reader(nn.Module):
    """q of images of one colour: mean SCALE times the pixel, standard deviation SIGMA."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = SCALE * x.mean((1, 2, 3))[:, None]
        return mean, torch.full_like(mean, 2 * math.log(SIGMA))


class Painter(nn.Module):
    """G(c): an image of one colour, `gain` * c."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, latent: Tensor) -> Tensor:
        return (self.gain * latent[:, :, None, None] / SCALE).clamp(-1, 1).expand(-1, 1, 64, 64)


PIXELS = torch.linspace(40, 215, COUNT).round().to(torch.uint8)


def run_of(gain: float, source: Codes) -> Run:
    """A run with this generator on COUNT images of one colour each."""

    def at(seed: int, positions: Tensor) -> Tensor:
        return PIXELS[positions][:, None, None, None].expand(-1, 1, 64, 64)

    config = SimpleNamespace(code_source=source)
    reals = SimpleNamespace(at=at, count=COUNT)
    stub = SimpleNamespace(
        config=config, reals=reals, device=torch.device("cpu"), c_dim=1, s_dim=0, labels=None, vae=None, q=Reader(),
        generator=Painter(gain), require_encoder=Reader,
    )  # fmt: skip
    return cast(Run, stub)


def means() -> Tensor:
    return SCALE * (PIXELS.double() / 127.5 - 1)[:, None]


def measured(gain: float, source: Codes, known: dict[str, Any] | None = None) -> dict[str, Any]:
    return information(run_of(gain, source), SAMPLES, SEED, source, known)


def test_a_generator_that_shows_the_code_has_the_nll_of_no_error_and_a_blind_one_that_of_the_codes_spread() -> None:
    """The images are whole numbers: a pixel's rounding moves c by up to 0.016, a twelfth of SIGMA."""
    exact, blind, reals = measured(1, "posterior"), measured(0, "posterior"), measured(1, "posterior")
    nll = exact["kinds"]["gan"]["code_nll"]["mean"]
    assert nll == pytest.approx(LOG_SIGMA, abs=0.002)
    # c = mean + SIGMA * eps around 0 (pixel 127 or 128: 0.004 / 2 off)
    spread = float((means().square().mean() + SIGMA**2) / (2 * SIGMA**2))
    found = blind["kinds"]["gan"]["code_nll"]
    assert found["mean"] == pytest.approx(LOG_SIGMA + spread, abs=4 * found["error"] + 0.1)
    assert found["error"] > 0.1
    # of an image and its own code: -log q(c|x) of a sample, half the square of eps
    own = reals["kinds"]["reals"]["code_nll"]
    assert own["mean"] == pytest.approx(LOG_SIGMA + 0.5, abs=4 * own["error"])


def test_the_entropy_is_that_of_the_data_and_r_is_the_difference() -> None:
    found = measured(1, "posterior")
    grid = torch.linspace(-6, 6, 20_001).double()
    density = mixture(means(), torch.full_like(means(), 2 * math.log(SIGMA))).log_prob(grid[:, None])
    truth = float(-torch.trapezoid(density.exp() * density, grid))
    entropy, r = found["entropy"], found["kinds"]["gan"]
    assert entropy["mean"] == pytest.approx(truth, abs=4 * entropy["error"])
    assert (entropy["posteriors"], entropy["images"], found["samples"]) == (COUNT, COUNT, SAMPLES)
    assert entropy["estimate"] == "mixture of all posteriors"
    assert r["nats"] == entropy["mean"] - r["code_nll"]["mean"]
    assert r["error"] == pytest.approx(math.hypot(entropy["error"], r["code_nll"]["error"]))
    # the mutual information of c and the image: H(c) - H(c|x)
    assert found["kinds"]["reals"]["nats"] == pytest.approx(truth - LOG_SIGMA - 0.5, abs=0.2)


def test_of_an_infogan_codes_are_of_the_prior_and_there_are_no_codes_of_reals() -> None:
    found = measured(0.5, "prior")
    assert set(found["kinds"]) == {"gan"}
    entropy = {"mean": pytest.approx(math.log(2 * math.pi * math.e) / 2), "error": 0.0, "estimate": "closed form"}
    assert found["entropy"] == entropy
    # c ~ N(0, 1), q finds c / 2: the square of the error is 1/4 in the mean
    r = found["kinds"]["gan"]
    assert r["code_nll"]["mean"] == pytest.approx(LOG_SIGMA + 0.25 / (2 * SIGMA**2), abs=4 * r["code_nll"]["error"])


def test_a_known_entropy_is_taken_as_it_is() -> None:
    known = {"mean": 9.0, "error": 0.5, "posteriors": 3, "images": 4}
    found = measured(1, "posterior", known)
    assert found["entropy"] == known | {"estimate": informations.STRATIFIED}
    assert found["kinds"]["gan"]["nats"] == 9 - found["kinds"]["gan"]["code_nll"]["mean"]


@pytest.mark.parametrize("command", ["alignment", "paper"])
def test_the_entropy_of_an_earlier_record_is_not_estimated_again(command: str, tmp_path: Path) -> None:
    """What is encoded then are the sources of the codes alone: once for the codes, once as the kind "reals"."""
    run, read = run_of(1, "posterior"), list[int]()
    at, described = run.reals.at, {"encoder_sha256": "e", "data": "d", "variant": "plain"}

    def counted(seed: int, positions: Tensor) -> Tensor:
        read.extend(positions.tolist())
        return at(seed, positions)

    vars(run.reals).update(at=counted)
    vars(run).update(results=Results(tmp_path), encoder_sha256="e", describe=lambda: described)
    first = measure.information(run, SAMPLES, SEED)
    assert len(read) == 2 * SAMPLES + COUNT
    for others in ({"seed": SEED + 1}, {"encoder_sha256": "f"}, {"data": "c"}, {"variant": "noisy"}):
        record = described | {"seed": SEED, "information": first} | others
        measurements.append(run.results, command, record)
    measurements.append(run.results, command, described | {"seed": SEED, "information": None})
    read.clear()
    assert measure.information(run, SAMPLES, SEED) == first
    assert len(read) == 2 * SAMPLES + COUNT, "none of those records is about the same codes"
    measurements.append(run.results, command, described | {"seed": SEED, "information": first})
    read.clear()
    assert measure.information(run, SAMPLES, SEED) == first
    assert len(read) == 2 * SAMPLES
