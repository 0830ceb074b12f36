"""Loss terms against closed forms, torch.distributions and finite differences; R1 against double backward.

Expectations are exact: by Gauss-Hermite quadrature, by enumeration, or by the trapezoid rule on smooth densities.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from models import ConvDiscriminator
from trainer.steps import losses


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
    penalty = losses.gradient_penalty(D(x, tangent=g).tangent)
    penalty.backward()
    assert abs(penalty.item() - expected.item()) / expected.item() < 1e-10
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

            return DiscriminatorOutput(x @ self.w, None, None if tangent is None else tangent @ self.w)

    D = Dot()
    g = losses.image_gradient(D, doubles(4, 6))
    penalty = losses.gradient_penalty(D(doubles(4, 6), tangent=g).tangent)  # type: ignore[attr-defined]
    penalty.backward()
    torch.testing.assert_close(penalty.detach(), D.w.detach().square().sum())
    torch.testing.assert_close(D.w.grad, 2 * D.w.detach())


def standard_normal(dims: int) -> tuple[Tensor, Tensor]:
    """Nodes [N, dims] and weights [N] that integrate polynomials of degree 9 against N(0, I) exactly."""
    z, w = (torch.from_numpy(values) for values in hermegauss(5))
    weights = torch.cartesian_prod(*[w / w.sum()] * dims).reshape(-1, dims).prod(1)
    return torch.cartesian_prod(*[z] * dims).reshape(-1, dims), weights


def weighted(term: Callable[..., Tensor], weights: Tensor, *tensors: Tensor) -> float:
    """The expectation of a term that is a mean over the batch: one call for each row, summed with weights."""
    rows = zip(*(t.split(1) for t in tensors), strict=True)
    return sum(float(w) * float(term(*row)) for w, row in zip(weights, rows, strict=True))


def entropy(variance: float) -> float:
    """Of a Gaussian, in nats."""
    return math.log(2 * math.pi * math.e * variance) / 2


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) of positive tables, in nats."""
    return float((p * np.log(p / q)).sum())


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    return (divergence(p, (p + q) / 2) + divergence(q, (p + q) / 2)) / 2


def enumerated(counts: np.ndarray, logits: np.ndarray) -> Tensor:
    """The logits [cells] or [cells, 2] of a sample in which every cell appears as often as `counts` says."""
    return torch.from_numpy(np.repeat(logits, counts.ravel(), axis=0))


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.9])
def test_the_optimal_critic_gives_the_total_correlation_of_a_gaussian(rho: float) -> None:
    z, weights = standard_normal(2)
    covariance = torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64)
    joint = MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance)
    c = z @ joint.scale_tril.T
    both = torch.stack((joint.log_prob(c), Normal(0.0, 1.0).log_prob(c).sum(1)), 1) + doubles(len(c), 1)
    found = weighted(losses.total_correlation, weights, both)
    assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=1e-12)


def test_the_critics_loss_is_the_cross_entropy_of_two_classes() -> None:
    joint, permuted = doubles(5, 2) * 3, doubles(7, 2) * 3
    zeros, ones = torch.zeros(5, dtype=torch.int64), torch.ones(7, dtype=torch.int64)
    expected = (F.cross_entropy(joint, zeros) + F.cross_entropy(permuted, ones)) / 2
    torch.testing.assert_close(losses.critic(joint, permuted), expected)
    undecided = losses.critic(doubles(5, 1).expand(5, 2), doubles(5, 1).expand(5, 2))
    assert float(undecided) == pytest.approx(math.log(2), abs=1e-15)


def test_the_best_critic_costs_log_2_less_the_divergence_of_joint_and_product() -> None:
    counts = np.array([[3, 1, 2], [1, 4, 1]])  # twelfths of a joint of two latents
    products = np.outer(counts.sum(1), counts.sum(0))  # 144ths of the product of its marginals
    joint, product = counts / 12, products / 144
    optimal = np.log(np.stack((joint.ravel(), product.ravel()), 1))
    found = losses.critic(enumerated(counts, optimal), enumerated(products, optimal))
    assert float(found) == pytest.approx(math.log(2) - jensen_shannon(joint, product), abs=1e-12)


@pytest.mark.parametrize(("a", "b", "v"), [(1.0, 0.0, 0.1), (0.7, -0.2, 0.5), (-1.0, 0.4, 2.0), (0.0, 0.3, 0.6)])
def test_infogans_term_is_its_bound_on_the_information(a: float, b: float, v: float) -> None:
    """A.4 to A.10 for c ~ N(0, 1), x = G(c) = c, q(c|x) = N(a x + b, v): R = H(c) - code_nll."""
    c, weights = standard_normal(1)
    nll = weighted(losses.code_nll, weights, c, a * c + b, torch.full_like(c, math.log(v)))
    r_info = entropy(1) - nll
    assert r_info == pytest.approx((1 - math.log(v) - ((1 - a) ** 2 + b**2) / v) / 2, abs=1e-7)
    if a == 0:  # q is one density of c, and A.10 holds to the letter
        p, q = (Normal(*torch.tensor(known, dtype=torch.float64)) for known in ((0, 1), (b, math.sqrt(v))))
        assert r_info == pytest.approx(-float(kl_divergence(p, q)), abs=1e-7)


A, V = 0.8, 0.5  # q(c|x) = N(A x, V) of x ~ N(0, 1)
Q_VARIANCE = A**2 + V  # of the aggregated posterior q(c)


def r_id_of_gaussians(g: float, k: float) -> float:
    """R_ID = H(q(c)) - code_nll for G(s, c) = g c + k s."""
    z, weights = standard_normal(2)
    c, s = z[:, :1] * math.sqrt(Q_VARIANCE), z[:, 1:]
    mean = A * (g * c + k * s)
    nll = weighted(losses.code_nll, weights, c, mean, torch.full_like(mean, math.log(V)))
    return entropy(Q_VARIANCE) - nll


@pytest.mark.parametrize(("g", "k"), [(0.0, 1.0), (1.0, 0.0), (-0.5, 0.7), (1.3, 0.4)])
def test_the_distilled_term_is_r_id(g: float, k: float) -> None:
    """A.11 to A.13: R_ID = E log q(c|G(s, c)) / q(c), c ~ q(c)."""
    error = (1 - A * g) ** 2 * Q_VARIANCE + (A * k) ** 2
    expected = (1 + math.log(Q_VARIANCE / V) - error / V) / 2
    assert r_id_of_gaussians(g, k) == pytest.approx(expected, abs=1e-7)


def test_r_id_of_a_generator_that_inverts_q_is_the_information_of_x_and_c() -> None:
    """G draws from the p(x|c) of the data: I(x; c) = log(Var c / V) / 2."""
    found = r_id_of_gaussians(A / Q_VARIANCE, math.sqrt(V / Q_VARIANCE))
    assert found == pytest.approx(math.log(Q_VARIANCE / V) / 2, abs=1e-7)


def test_the_best_discriminator_of_pairs_measures_real_against_fake_pairs() -> None:
    """For x in 3 and c in 2 values: loss_d = 2 log 2 - 2 JSD(p_d(x, c) || p_G(x, c)), and the same logits give A.20."""
    pairs_d = np.array([[6, 2], [3, 3], [1, 9]])  # 24ths: p(x) q(c|x)
    shares_g = np.array([[2, 1], [1, 2], [2, 2]])  # fifths: p_G(x|c)
    pairs_g = shares_g * pairs_d.sum(0)  # 120ths: q(c) p_G(x|c)
    p_d, p_g = pairs_d / 24, pairs_g / 120
    optimal = np.log(p_d / p_g).ravel()
    loss = losses.discriminator_real(enumerated(pairs_d, optimal))
    loss += losses.discriminator_fake(enumerated(pairs_g, optimal))
    assert float(loss) == pytest.approx(2 * math.log(2) - 2 * jensen_shannon(p_d, p_g), abs=1e-12)
    p, q = p_d.sum(1, keepdims=True), p_d.sum(0)
    r_id = float((p_g * np.log(p_d / p)).sum() - (q * np.log(q)).sum())
    to_data = float((p_g * np.log(shares_g / 5 / p)).sum())  # E_q(c) KL(p_G(x|c) || p(x))
    jeffreys = float(((p_d - p_g).ravel() * optimal).sum())
    assert jeffreys == pytest.approx(divergence(p_d, p_g) + to_data - r_id, abs=1e-12)


def test_the_divergence_that_cgan_minimises_contains_minus_r_id() -> None:
    """A.15 to A.20 for x in 3 values and a Gaussian q(c|x), with R_ID from code_nll on a fine grid of c."""
    p = np.array([0.5, 0.2, 0.3])[:, None]
    mean, variance = np.array([-1.0, 0.5, 1.5])[:, None], np.array([0.4, 1.0, 0.6])[:, None]
    c, step = np.linspace(-9, 9, 301, retstep=True)
    q_given_x = np.exp(-((c - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    q = (p * q_given_x).sum(0)
    g_given_c = np.exp(np.array([[0.3], [0.0], [-0.2]]) + np.array([[-0.5], [0.1], [0.4]]) * c)
    g_given_c /= g_given_c.sum(0)
    real, fake = p * q_given_x * step, q * g_given_c * step  # [x, c], each sums to 1
    columns = [torch.from_numpy(np.broadcast_to(t, fake.shape).reshape(-1, 1)) for t in (c, mean, np.log(variance))]
    r_id = -(q * np.log(q)).sum() * step - weighted(losses.code_nll, torch.from_numpy(fake.ravel()), *columns)
    jeffreys = divergence(real, fake) + divergence(fake, real)
    to_data = float((fake * np.log(g_given_c / p)).sum())  # E_q(c) KL(p_G(x|c) || p(x))
    assert real.sum() == pytest.approx(1, abs=1e-12)
    assert fake.sum() == pytest.approx(1, abs=1e-12)
    assert jeffreys == pytest.approx(divergence(real, fake) + to_data - r_id, abs=1e-7)
