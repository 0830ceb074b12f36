"""What the face network is trained on: damage, and a loss that is 0 for the truth."""

from __future__ import annotations

import pytest
import torch

from data_shards.format.manifest import Factor
from evaluation.factors.damage import DAMAGES
from evaluation.factors.face_network import heads_of, targets_of
from evaluation.factors.train_face_net import damaged, losses_of
from models.face_net import DAMAGE

FACTORS = (
    Factor(name="mouth", size=2, values=("a", "b")),
    Factor(name="skin", size=20, range=(0, 1)),
    Factor(name="hue", size=20, range=(0, 1), circular=True),
)


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_grows_with_its_strength_and_stays_in_range(name: str) -> None:
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    dice = torch.rand(8, 8, generator=torch.Generator().manual_seed(1))
    weak, strong = (DAMAGES[name](images, torch.full((8,), s), dice) for s in (0.05, 1.0))
    assert strong.shape == images.shape
    assert strong.min() >= 0
    assert strong.max() <= 1 + 1e-5
    assert (strong - images).square().mean() > (weak - images).square().mean() > 0


def test_half_of_a_batch_is_damaged() -> None:
    images = torch.rand(512, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    changed, amount, of_colour = damaged(images, torch.arange(512))
    same = (changed == images).flatten(1).all(1)
    assert torch.equal(same, amount == 0)
    assert same.double().mean() == pytest.approx(0.5, abs=0.1)
    assert (of_colour == 0).double().mean() == pytest.approx(0.1, abs=0.05)


def test_the_truth_has_no_loss_and_a_wrong_hue_has_one_unless_its_colours_were_shifted() -> None:
    classes, values = torch.tensor([[1, 5, 0]]).numpy(), torch.tensor([[0.25, 0.0]]).double().numpy()
    targets = targets_of(FACTORS, classes, values) | {DAMAGE: torch.zeros(1)}
    assert targets["hue"].tolist() == [[1.0, 0.0]]
    truth = targets | {"mouth": torch.tensor([[-50.0, 50.0]])}
    heads = heads_of(FACTORS)
    assert float(losses_of(heads, truth, targets, torch.ones(1))) == pytest.approx(0, abs=1e-6)
    wrong = truth | {"hue": torch.tensor([[-1.0, 0.0]])}
    assert float(losses_of(heads, wrong, targets, torch.ones(1))) > 1
    assert float(losses_of(heads, wrong, targets, torch.zeros(1))) == pytest.approx(0, abs=1e-6)
