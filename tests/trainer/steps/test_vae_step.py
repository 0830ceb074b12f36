"""Two iterations of each of the three VAEs against the plain re-derivation of tests/reference/plain.py, in float64."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from common.random_numbers import Purpose, bits
from models import Critic
from tests.reference import plain
from trainer.steps import losses

NOT_COMPARED = ["active_latents"]  # has a test of its own


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("system", plain.VAES)
def test_two_iterations_equal_a_plain_rederivation(system: str, likelihood: str, count: int) -> None:
    """count: micro-batches. beta-VAE's beta is on a schedule: 2 in the first iteration, 5 in the second."""
    vae, critic = plain.vae_networks(system)
    copies = copy.deepcopy((vae, critic))
    step = plain.vae_step(plain.vae_config(system, likelihood=likelihood), vae, critic, plain.ALONE)
    rederived = plain.PlainVae(*copies, likelihood)
    for i, (first, second) in enumerate(plain.vae_batches()):
        found = step(plain.pieces(first, count), plain.pieces(second, count) if critic else [], i * plain.BATCH)
        plain.assert_same_terms(found, rederived.iterate(first, second, plain.BETAS[system][i]), NOT_COMPARED)
        plain.assert_same_parameters({"vae": vae}, {"vae": copies[0]})
        if critic is not None:
            plain.assert_same_parameters({"critic": critic}, {"critic": copies[1]})


def test_factor_vae_with_the_critic_of_table_a2_equals_a_plain_rederivation() -> None:
    vae, _ = plain.vae_networks("FactorVAE")
    critic = Critic(plain.C, "default").double()
    copies = copy.deepcopy((vae, critic))
    step = plain.vae_step(plain.vae_config("FactorVAE"), vae, critic, plain.ALONE)
    rederived = plain.PlainVae(*copies)
    for first, second in plain.vae_batches():
        found = step([first], [second], 0)
        plain.assert_same_terms(found, rederived.iterate(first, second, 1.0), NOT_COMPARED)
    plain.assert_same_parameters({"vae": vae, "critic": critic}, dict(zip(("vae", "critic"), copies, strict=True)))


def test_latents_with_more_than_a_hundredth_of_a_nat_are_active() -> None:
    """A latent whose posterior is N(0.2, 1) carries 0.02 nat; one at N(0.1, 1) 0.005."""
    vae, _ = plain.vae_networks("VAE")
    torch.nn.init.zeros_(vae.encoder.layers[-1].weight)
    vae.encoder.layers[-1].bias.data = torch.tensor([0.2, 0.1, -0.2, 0.0, 0, 0, 0, 0], dtype=torch.float64)
    step = plain.vae_step(plain.vae_config("VAE"), vae, None, plain.ALONE)
    first, _ = next(plain.vae_batches())
    assert float(step(plain.pieces(first, 2), [], 0)["active_latents"]) == 2


def keys_of(batch: int, size: int, count: int) -> Tensor:
    """Keys as VaeStep draws them for one batch of `size` positions and a code of `count` dimensions."""
    return bits(plain.SEED, Purpose.PERMUTED_DIMS, torch.arange(size) + batch * size, count)


def test_permuted_dims_keep_the_values_of_every_latent_and_permute_each_its_own_way() -> None:
    c = torch.randn(32, 10)
    permuted = losses.permute_dims(c, keys_of(3, 32, 10))
    assert torch.equal(permuted.sort(0).values, c.sort(0).values)
    rows = losses.permute_dims(torch.arange(32)[:, None].expand(32, 10), keys_of(3, 32, 10))
    ways = {tuple(column) for column in rows.T.tolist()}
    assert len(ways) == 10
    assert tuple(range(32)) not in ways


def test_permuted_dims_give_every_permutation_of_a_batch_equally_often() -> None:
    """24,000 permutations of 4; and how two latents of one batch lie to each other is as uniform."""
    alone, relative = [], []
    for batch in range(3000):
        rows = losses.permute_dims(torch.arange(4)[:, None].expand(4, 8), keys_of(batch, 4, 8))
        alone += [tuple(column) for column in rows.T.tolist()]
        by_first = rows[rows[:, 0].argsort()]
        relative += [tuple(by_first[:, j].tolist()) for j in (1, 7)]
    for found in (alone, relative):
        expected = len(found) / 24
        counts = [found.count(permutation) for permutation in itertools.permutations(range(4))]
        assert sum(counts) == len(found)
        assert sum((n - expected) ** 2 / expected for n in counts) < chi2.ppf(0.999, 23)
