"""Random numbers are a pure function of seed, purpose and position, and Philox4x32-10 is the published one."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from common.random_numbers import Purpose, bits, integers, normal, philox, uniform

# Random123 kat_vectors, philox4x32-10: counter, key, result.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(w, 16) for w in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_gives_the_published_vectors(counter: str, key: str, expected: str) -> None:
    first, second = words(key)
    got = philox([torch.tensor(w) for w in words(counter)], (first, second))
    assert [int(w) for w in got] == words(expected)


def test_uniform_is_uniform() -> None:
    draws = uniform(1, Purpose.CODE, torch.arange(20_000), (4,))
    assert draws.dtype == torch.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    assert stats.kstest(draws.flatten().double().numpy(), "uniform").pvalue > 0.01


def test_normal_is_normal() -> None:
    draws = normal(1, Purpose.CODE, torch.arange(20_000), (5,)).double()
    assert stats.kstest(draws.flatten().numpy(), "norm").pvalue > 0.01
    assert abs(float(draws.mean())) < 0.01
    assert abs(float(draws.var()) - 1) < 0.02
    assert abs(stats.pearsonr(draws[:, 0].numpy(), draws[:, 1].numpy())[0]) < 0.03


def test_integers_cover_their_range_evenly() -> None:
    draws = integers(3, Purpose.VARIANT_COLOR, torch.arange(8_000), (3,), 8)
    assert stats.chisquare(torch.bincount(draws.flatten(), minlength=8).numpy()).pvalue > 0.01


def test_a_draw_does_not_depend_on_how_a_batch_is_split() -> None:
    positions = torch.arange(2**40, 2**40 + 64)
    whole = normal(7, Purpose.NUISANCE_D, positions, (3, 5))
    parts = torch.cat([normal(7, Purpose.NUISANCE_D, p, (3, 5)) for p in positions.split([1, 20, 43])])
    assert torch.equal(whole, parts)
    assert torch.equal(bits(7, Purpose.FLIP, positions, 9)[:, :3], bits(7, Purpose.FLIP, positions, 3))


def test_seeds_purposes_and_positions_draw_differently() -> None:
    here = torch.tensor([5])
    draws = {
        tuple(bits(seed, purpose, here + shift, 4)[0].tolist())
        for seed in (0, 1)
        for purpose in (Purpose.FLIP, Purpose.CODE)
        for shift in (0, 1, 2**32)
    }
    assert len(draws) == 12


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="4294967296"):
        bits(2**32, Purpose.FLIP, torch.tensor([0]), 1)
