"""Loss terms against closed forms, torch.distributions and finite differences; R1 against double backward."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from models import ConvDiscriminator
from trainer import losses


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_bernoulli_reconstruction_is_the_log_likelihood() -> None:
    logits, x = doubles(4, 1, 8, 8), (doubles(4, 1, 8, 8) > 0).double()
    expected = -Independent(Bernoulli(logits=logits), 3).log_prob(x).mean()
    torch.testing.assert_close(losses.bernoulli_reconstruction(logits, x), expected)


def test_gaussian_reconstruction_has_no_half_and_sums_over_pixels() -> None:
    logits, x = doubles(4, 3, 8, 8), torch.rand(4, 3, 8, 8, dtype=torch.float64)
    expected = sum(((1 / (1 + torch.exp(-logits[b]))) - x[b]).pow(2).sum() for b in range(4)) / 4
    torch.testing.assert_close(losses.gaussian_reconstruction(logits, x), expected)


def test_kl_is_the_closed_form_per_latent() -> None:
    mean, logvar = doubles(6, 5), doubles(6, 5)
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(losses.kl_per_latent(mean, logvar), expected)


def test_adversarial_terms_are_cross_entropies() -> None:
    logits = doubles(7) * 5
    p = torch.sigmoid(logits)
    torch.testing.assert_close(losses.discriminator_real(logits), -p.log().mean())
    torch.testing.assert_close(losses.discriminator_fake(logits), -(1 - p).log().mean())
    torch.testing.assert_close(losses.generator(logits), -p.log().mean())


def test_code_nll_is_the_gaussian_log_density() -> None:
    c, mean, logvar = doubles(6, 5), doubles(6, 5), doubles(6, 5)
    expected = -Normal(mean, (logvar / 2).exp()).log_prob(c).sum(1).mean()
    torch.testing.assert_close(losses.code_nll(c, mean, logvar), expected, rtol=1e-7, atol=0)


def test_a_collapsed_latent_costs_what_the_prior_costs() -> None:
    """With q(c|x) = N(0, 1) whatever x is, a dimension's expected NLL is the entropy of N(0, 1), about 1.42."""
    c = torch.randn(200_000, 1, dtype=torch.float64)
    nll = losses.code_nll(c, torch.zeros_like(c), torch.zeros_like(c))
    assert abs(float(nll) - 0.5 * (1 + math.log(2 * math.pi))) < 0.01


@pytest.mark.parametrize(
    "term",
    [
        lambda a, b: losses.code_nll(a, b, b * 0.3),
        lambda a, b: losses.kl_per_latent(a, b).sum(),
        lambda a, b: losses.bernoulli_reconstruction(a, torch.sigmoid(b)),
        lambda a, b: losses.gaussian_reconstruction(a, torch.sigmoid(b)),
    ],
)
def test_gradients_equal_finite_differences(term: object) -> None:
    a, b = doubles(3, 4).requires_grad_(), doubles(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(term, (a, b))


def double_backward(D: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """mean_b ||grad_x D(x_b)||^2 and its gradients in the usual way."""
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(D(x).logits.sum(), x, create_graph=True)
    penalty = g.square().flatten(1).sum(1).mean()
    names = [name for name, _ in D.named_parameters()]
    found = torch.autograd.grad(penalty, list(D.parameters()), allow_unused=True)
    return penalty, {n: torch.zeros(()) if f is None else f for n, f in zip(names, found, strict=True)}


@pytest.mark.parametrize("channels", [1, 3])
def test_r1_by_the_tangent_equals_double_backward(channels: int) -> None:
    D = ConvDiscriminator(channels).double()
    x = torch.rand(5, channels, 64, 64, dtype=torch.float64) * 2 - 1
    expected, gradients = double_backward(D, x)
    D.requires_grad_(False)
    g = losses.image_gradient(D, x)
    D.requires_grad_(True)
    penalty = losses.r1_penalty(D(x, tangent=g).tangent)
    penalty.backward()
    assert abs(float(penalty - expected) / float(expected)) < 1e-10
    for name, parameter in D.named_parameters():
        found = torch.zeros(()) if parameter.grad is None else parameter.grad
        scale = max(float(gradients[name].norm()), 1e-8)
        assert float((found - gradients[name]).norm()) / scale < 1e-10, name


def test_the_tangent_of_the_discriminator_equals_forward_mode() -> None:
    D = ConvDiscriminator(1).double()
    x, t = doubles(3, 1, 64, 64), doubles(3, 1, 64, 64)
    _, along = torch.func.jvp(lambda v: D(v).logits, (x,), (t,))
    torch.testing.assert_close(D(x, tangent=t).tangent, along, rtol=1e-10, atol=1e-12)


def test_r1_has_no_half() -> None:
    """For D(x) = w . x the penalty is ||w||^2 and its gradient 2 w."""

    class Dot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(doubles(6))

        def forward(self, x: Tensor, tangent: Tensor | None = None, c: Tensor | None = None) -> object:
            from models import DiscriminatorOutput

            return DiscriminatorOutput(x @ self.w, None if tangent is None else tangent @ self.w)

    D = Dot()
    g = losses.image_gradient(D, doubles(4, 6))
    penalty = losses.r1_penalty(D(doubles(4, 6), tangent=g).tangent)  # type: ignore[attr-defined]
    penalty.backward()
    torch.testing.assert_close(penalty.detach(), D.w.detach().square().sum())
    torch.testing.assert_close(D.w.grad, 2 * D.w.detach())
