"""Two iterations of each of the five GANs against the plain re-derivation of tests/reference/plain.py, in float64."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.random_numbers import Purpose
from models import DiscriminatorOutput
from models.layers import Chain, Conv2d, Flatten, LeakyReLU, Linear, Pair
from tests.reference import augment, plain
from trainer.config.schema import GanConfig
from trainer.steps import schedule
from trainer.steps.augment.augmenter import Augmenter
from trainer.steps.batches import Reals
from trainer.steps.gan_step import Penalties


def train_both(
    config: GanConfig, gan: plain.Gan, batches: list[Reals], count: int = 1, see: plain.See | None = None
) -> plain.Gan:
    """Train `gan` by our steps on `count` micro-batches each, and a copy plainly: the copy, found to be the same."""
    copied, relativistic = copy.deepcopy(gan), config.objective == "relativistic"
    step = plain.gan_step(config, gan, plain.ALONE)
    rederived = plain.PlainGan(config.system, copied, config.r1, r2=config.r2, relativistic=relativistic, see=see)
    weights = Penalties(config.r1, config.r2)
    for batch in batches:
        plain.assert_same_terms(step(plain.pieces(batch, count), weights, 0, plain.BATCH), rederived.iterate(batch))
        plain.assert_same_parameters(gan.trained(config.system), copied.trained(config.system))
    return copied


def same_bits(a: nn.Module, b: nn.Module) -> list[bool]:
    return [torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)]


@pytest.mark.parametrize("system", plain.GANS)
def test_two_iterations_equal_a_plain_rederivation(system: str) -> None:
    gan = plain.gan_networks(system)
    train_both(plain.gan_config(system), gan, list(plain.gan_batches()))


@pytest.mark.parametrize("system", plain.GANS)
def test_two_micro_batches_give_the_parameters_of_one_batch(system: str) -> None:
    train_both(plain.gan_config(system), plain.gan_networks(system), list(plain.gan_batches()), count=2)


@pytest.mark.parametrize("system", plain.GANS)
@pytest.mark.parametrize(("size", "alpha"), [(16, None), (8, 0.3), (4, None)])
def test_resnets_with_a_bottleneck_in_any_phase(system: str, size: int, alpha: float | None) -> None:
    config = plain.grown_config(system)
    train_both(config, plain.grown_networks(config), list(plain.gan_batches(size=size, alpha=alpha)), count=2)


@pytest.mark.parametrize("system", plain.GANS)
@pytest.mark.parametrize("count", [1, 2])
def test_the_relativistic_objective_with_r1_and_r2(system: str, count: int) -> None:
    """Real b against fake b; cGAN's pairs have the same code. The plain iteration takes one loss of both."""
    config = plain.gan_config(system, objective="relativistic", r2=3)
    train_both(config, plain.gan_networks(system), list(plain.gan_batches()), count)


@pytest.mark.parametrize("again", [None, {"from_resolution": 8}], ids=["", "checkpointed"])
@pytest.mark.parametrize(("size", "alpha"), [(16, None), (8, 0.3)])
def test_the_relativistic_objective_with_a_bottleneck_in_a_fade(size: int, alpha: float | None, again: Any) -> None:
    config = plain.grown_config("ID-GAN", objective="relativistic", r2=3, checkpointing=again)
    train_both(config, plain.grown_networks(config), list(plain.gan_batches(size=size, alpha=alpha)), count=2)


def diffaugment(x: Tensor, purpose: Purpose, positions: Tensor) -> Tensor:
    return augment.diffaugment(x, plain.SEED, purpose, positions)


@pytest.mark.parametrize("system", plain.GANS)
@pytest.mark.parametrize(("objective", "count"), [("logistic", 1), ("relativistic", 2)])
def test_augmented_images_are_what_d_alone_sees(system: str, objective: str, count: int) -> None:
    """R1 and R2 are those at the images before, G's gradient goes through, and q sees plain images."""
    config = plain.gan_config(system, objective=objective, r2=3, augment={"kind": "diffaugment"})
    train_both(config, plain.gan_networks(system), list(plain.gan_batches()), count, diffaugment)


@pytest.mark.parametrize("again", [None, {"from_resolution": 8}], ids=["", "checkpointed"])
@pytest.mark.parametrize(("size", "alpha"), [(16, None), (8, 0.3)])
def test_augmented_images_with_a_bottleneck_in_a_fade(size: int, alpha: float | None, again: Any) -> None:
    """By the two passes of R1, too."""
    config = plain.grown_config("ID-GAN", augment={"kind": "diffaugment"}, checkpointing=again)
    batches = list(plain.gan_batches(size=size, alpha=alpha))
    train_both(config, plain.grown_networks(config), batches, 2, diffaugment)


def test_ada_in_two_iterations_between_which_p_moves() -> None:
    """p is 0 in the first, and the second is that of a plain iteration with the moved p."""
    config = plain.gan_config("ID-GAN", augment={"kind": "ada", "target": -0.99, "interval": 1, "kimg": 0.01})
    augmenter = Augmenter(config.augment, plain.SEED, plain.ALONE, torch.float64)
    gan = plain.gan_networks("ID-GAN")

    def see(x: Tensor, purpose: Purpose, positions: Tensor) -> Tensor:
        return augmenter.augmentation(purpose, positions, x)(x)

    rederived = plain.PlainGan("ID-GAN", copy.deepcopy(gan), config.r1, see=see)
    step = plain.gan_step(config, gan, plain.ALONE)
    for i, batch in enumerate(plain.gan_batches()):
        p = min(i * plain.BATCH / 10, 0.8)
        augmenter.state["augment.p"].fill_(p)
        terms = step(plain.pieces(batch, 2), Penalties(config.r1), 0, plain.BATCH)
        assert float(terms["augment_p"]) == pytest.approx(p)
        expected = rederived.iterate(batch) | {name: terms[name] for name in augmenter.names}
        plain.assert_same_terms(terms, expected)
        plain.assert_same_parameters(gan.trained("ID-GAN"), rederived.gan.trained("ID-GAN"))


LABELS = 3  # classes


@pytest.mark.parametrize("system", plain.GANS)
@pytest.mark.parametrize(("objective", "count"), [("logistic", 1), ("relativistic", 2)])
def test_labels_are_told_to_g_and_paired_with_images_in_d(system: str, objective: str, count: int) -> None:
    """D's logit gains features . V y, with the y of the real that a fake is made beside; R1 and R2 hold y fixed."""
    config = plain.gan_config(system, objective=objective, r2=3, labels="shape")
    train_both(config, plain.gan_networks(system, LABELS), list(plain.gan_batches(y_dim=LABELS)), count)


@pytest.mark.parametrize("again", [None, {"from_resolution": 8}], ids=["", "checkpointed"])
@pytest.mark.parametrize(("size", "alpha"), [(16, None), (8, 0.3)])
def test_labels_with_a_bottleneck_in_a_fade(size: int, alpha: float | None, again: Any) -> None:
    config = plain.grown_config("cGAN", labels="shape", checkpointing=again)
    batches = list(plain.gan_batches(size=size, alpha=alpha, y_dim=LABELS))
    train_both(config, plain.grown_networks(config, LABELS), batches, 2)


def test_r2_without_r1_and_with_the_papers_objective() -> None:
    train_both(plain.gan_config("ID-GAN", r1=0, r2=3), plain.gan_networks("ID-GAN"), list(plain.gan_batches()))


@pytest.mark.parametrize("objective", ["logistic", "relativistic"])
def test_the_mean_instead_of_a_sample_in_gs_step(objective: str) -> None:
    bottleneck = {"information": 0.2, "beta": 0.3, "beta_step": 0.01, "sample_in_g_step": False}
    config = plain.grown_config("ID-GAN", bottleneck=bottleneck, objective=objective)
    gan = plain.grown_networks(config)
    relativistic = objective == "relativistic"
    rederived = plain.PlainGan("ID-GAN", copy.deepcopy(gan), sample_in_g_step=False, relativistic=relativistic)
    step = plain.gan_step(config, gan, plain.ALONE)
    for batch in plain.gan_batches(size=16):
        plain.assert_same_terms(step([batch], Penalties(config.r1), 0, plain.BATCH), rederived.iterate(batch))
        plain.assert_same_parameters(gan.trained("ID-GAN"), rederived.gan.trained("ID-GAN"))


def test_lazy_r1_has_k_times_its_weight_in_every_kth_iteration() -> None:
    config = plain.gan_config("ID-GAN", r1_interval=2)
    gan = plain.gan_networks("ID-GAN")
    rederived = plain.PlainGan("ID-GAN", copy.deepcopy(gan))
    step = plain.gan_step(config, gan, plain.ALONE)
    for i, batch in enumerate(plain.gan_batches()):
        rederived.r1 = 20 if i == 0 else 0
        r1_weight = schedule.lazy_weight(config.r1, config.r1_interval, i, i + 1)
        terms, expected = step([batch], Penalties(r1_weight), 0, plain.BATCH), rederived.iterate(batch)
        expected["r1"] = expected["r1"] * 2
        plain.assert_same_terms(terms, expected)
        plain.assert_same_parameters(gan.trained("ID-GAN"), rederived.gan.trained("ID-GAN"))
    assert sum(schedule.lazy_weight(10, 16, i, i + 1) for i in range(32)) == 32 * 10


def test_lazy_r1_is_not_lost_where_the_count_of_iterations_jumps() -> None:
    """The clock is off the grid of the phases after an accepted change of a batch size; 15 is skipped, and R1 due."""
    counts = [9, 10, 11, 12, 13, 14, 17, 18, 19, 20, 21]
    weights = [schedule.lazy_weight(2, 5, now, after) for now, after in itertools.pairwise(counts)]
    assert weights == [0, 10, 0, 0, 0, 10, 0, 0, 0, 10]


def test_without_r1_the_discriminator_steps_on_its_two_losses() -> None:
    train_both(plain.gan_config("ID-GAN", r1=0), plain.gan_networks("ID-GAN"), list(plain.gan_batches()))


@pytest.mark.parametrize("system", plain.GANS)
def test_only_infogan_trains_q(system: str) -> None:
    gan = plain.gan_networks(system)
    start = copy.deepcopy(gan)
    step = plain.gan_step(plain.gan_config(system), gan, plain.ALONE)
    for batch in plain.gan_batches():
        step([batch], Penalties(10), 0, plain.BATCH)
    assert any(same_bits(gan.q, start.q)) == (system != "InfoGAN")
    assert all(same_bits(gan.q, start.q)) == (system != "InfoGAN")
    for network, before in ((gan.G, start.G), (gan.D, start.D), (gan.average, start.average)):
        assert not any(same_bits(network, before))


class Generator128(nn.Module):
    """z -> [B, 3, 128, 128], nothing like Table A.3's."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.paint = nn.Linear(3 + plain.C, 6 * 16 * 16), nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, z: Tensor, resolution: int = 128, alpha: None = None) -> Tensor:
        x = F.softplus(self.project(z)).reshape(-1, 6, 16, 16)
        return self.paint(F.interpolate(x, scale_factor=8)).tanh()


class Discriminator128(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = Chain(Conv2d(3, 4, 8, 8), LeakyReLU(0.2), Conv2d(4, 5, 3), Flatten(), Linear(5 * 14 * 14, 1))

    def forward(self, x: Tensor, tangent: Tensor | None = None, **nothing: None) -> DiscriminatorOutput:
        return self.head(*self.trunk(x, tangent, None))

    def trunk(self, x: Tensor, tangent: Tensor | None, _: None) -> Pair:
        return self.layers(x, tangent)

    def head(self, logits: Tensor, slope: Tensor | None, *nothing: None) -> DiscriminatorOutput:
        return DiscriminatorOutput(logits[:, 0], None, None if slope is None else slope[:, 0])


def test_the_step_assumes_no_size_and_no_layers_of_its_networks() -> None:
    """ID-GAN at 128 px in color: q sees the 64 px image of a real, and a fake pooled to 64."""
    torch.manual_seed(0)
    G, D = Generator128().double(), Discriminator128().double()
    gan = plain.Gan(G, D, plain.encoder(3), plain.clone(G))
    train_both(plain.gan_config("ID-GAN"), gan, list(plain.gan_batches(channels=3, size=128)))
