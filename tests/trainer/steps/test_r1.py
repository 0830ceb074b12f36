"""D's loss and R1 by one forward pass: the gradients of a double backward, and where a step takes it."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import ConvDiscriminator, Discriminator, DiscriminatorOutput
from models.layers import Chain, Conv2d, LeakyReLU
from models.recorded_pass import RecordedPass
from tests.reference import plain
from trainer.config.schema import GanConfig
from trainer.steps import losses, r1
from trainer.steps.augment.augmenter import Augmentation
from trainer.steps.forward_passes import ForwardPasses
from trainer.steps.gan_step import Penalties

WEIGHT, LABELS = 7.0, 4
CASES = {  # D, its side, and whether it is in a fade
    "Table A.3": (lambda: ConvDiscriminator(2), 64, None),
    "Table A.3, pairs": (lambda: ConvDiscriminator(1, 3), 64, None),
    "Table A.3, pairs and labels": (lambda: ConvDiscriminator(1, 3, LABELS), 64, None),
    "ResNet": (lambda: Discriminator(16, 4, 16), 16, None),
    "ResNet, pairs, in a fade": (lambda: Discriminator(16, 4, 16, c_dim=3, start_resolution=4), 16, 0.3),
    "ResNet with skips": (lambda: Discriminator(32, 4, 16, start_resolution=8, skips=True), 32, 0.7),
    "ResNet before its last size": (lambda: Discriminator(32, 4, 16, start_resolution=8), 8, None),
    "bottleneck": (lambda: Discriminator(16, 4, 16, bottleneck=True), 16, None),
    "bottleneck, pairs, in a fade": (lambda: Discriminator(16, 4, 16, 3, True, 3, 4, True), 16, 0.6),
    "bottleneck, labels": (lambda: Discriminator(16, 4, 16, bottleneck=True, y_dim=LABELS), 16, None),
}


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def loss(output: DiscriminatorOutput) -> Tensor:
    kl = 0 if output.kl is None else 0.3 * output.kl.mean()
    return losses.discriminator_real(output.logits) + kl


def case(name: str) -> tuple[Any, Tensor, dict[str, Tensor | None]]:
    """D as if trained (growth with skips begins with zeros), images, and D's other inputs."""
    torch.manual_seed(0)
    make, side, alpha = CASES[name]
    D = make().double()
    for p in D.parameters():
        nn.init.normal_(p, std=0.2)
    c = doubles(3, 3) if D.judge.projection is not None else None
    inputs = {
        "noise": doubles(3, *D.noise_shape) if getattr(D, "bottleneck", None) else None,
        "c": c,
        "y": doubles(3, LABELS) if D.judge.label_projection is not None else None,
        "alpha": None if alpha is None else torch.tensor(alpha, dtype=torch.float64),
    }
    return D, doubles(3, 2 if name == "Table A.3" else 1 if side == 64 else 3, side, side), inputs


@pytest.mark.parametrize("name", CASES)
def test_one_pass_has_the_gradients_of_a_double_backward(name: str) -> None:
    D, x, inputs = case(name)
    real = x.clone().requires_grad_()
    judged = D(real, **inputs)
    (g,) = torch.autograd.grad(judged.logits.sum(), real, create_graph=True)
    penalty = g.square().flatten(1).sum(1).mean()
    expected = torch.autograd.grad(loss(judged) + WEIGHT * penalty, list(D.parameters()), allow_unused=True)

    for calls in (1, 2):  # the second one adds to what is there
        found, value = r1.add_gradients(D, x, loss, WEIGHT, Augmentation(), **inputs)
        torch.testing.assert_close(found.logits, judged.logits, rtol=0, atol=1e-12)
        torch.testing.assert_close(value, penalty.detach(), rtol=1e-12, atol=0)
        for (key, p), right in zip(D.named_parameters(), expected, strict=True):
            if right is None:
                assert p.grad is None or not p.grad.any(), key
            else:
                assert float((p.grad - calls * right).norm()) <= 1e-11 * calls * float(right.norm()), key
    assert x.grad is None
    assert not any("forward" in vars(layer) for layer in D.modules()), "every layer is itself again"


@pytest.mark.parametrize("retain", [False, True], ids=["one backward pass", "two"])
def test_what_a_layer_kept_is_freed_as_soon_as_it_was_used(retain: bool) -> None:
    """Else every layer's input and gradient would be alive until the end, which a large image has no room for."""
    D = Discriminator(16, 4, 16)
    trunk = RecordedPass(D, lambda x: D.trunk(x, None, None)[0], torch.randn(2, 3, 16, 16))
    assert trunk.output is not None
    trunk.input_gradient(torch.ones_like(trunk.output), retain)
    records = [weakref.ref(record) for record in trunk.records.values()]
    assert len(records) == len([m for m in D.modules() if isinstance(m, (Conv2d, LeakyReLU))]) - 1, "all of the trunk"
    alive: list[int] = []
    D.blocks["4"].register_forward_hook(lambda *_: alive.append(sum(record() is not None for record in records)))
    trunk.tangent(torch.randn(2, 3, 16, 16))
    assert alive == [0], "the last block's own are gone as it ends"
    assert (trunk.output is None) != retain


def test_a_layer_that_is_called_twice_is_refused() -> None:
    chain = Chain(Conv2d(2, 2, 1), LeakyReLU(0.2))
    with pytest.raises(AssertionError, match="two gradients"):
        RecordedPass(chain, lambda x: chain(chain(x)[0])[0], torch.randn(1, 2, 3, 3))
    assert not any(layer._forward_hooks for layer in chain), "no hook stays behind"


def routes(monkeypatch: pytest.MonkeyPatch, config: GanConfig) -> list[str]:
    """By which route an iteration with R1, and one without, went through D on the reals."""
    taken: list[str] = []
    for name in ("image_gradient", "add_penalised_gradients"):
        function = getattr(ForwardPasses, name)

        def noted(*args: Any, name: str = name, function: Any = function) -> Any:
            taken.append(name)
            return function(*args)

        monkeypatch.setattr(ForwardPasses, name, noted)
    gan = plain.grown_networks(config)
    step = plain.gan_step(config, gan, plain.ALONE)
    for weight in (10.0, 0.0):
        step([next(plain.gan_batches(size=16))], Penalties(weight), 0, plain.BATCH)
    return taken


def test_one_pass_is_taken_where_parameters_are_whole_and_nothing_is_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert routes(monkeypatch, plain.grown_config("ID-GAN")) == ["add_penalised_gradients"]


@pytest.mark.parametrize("setting", [{"checkpointing": {"from_resolution": 8}}, {"compile": True}])
def test_two_passes_are_taken_elsewhere(monkeypatch: pytest.MonkeyPatch, setting: dict[str, Any]) -> None:
    assert routes(monkeypatch, plain.grown_config("ID-GAN", **setting)) == ["image_gradient"]
