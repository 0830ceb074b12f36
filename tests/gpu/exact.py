"""One iteration in fp32 on a device against the plain iteration of tests/reference/plain.py in float64 on the CPU.

The reference is no second run of the trainer: a fault that both devices share is found too, and the same code has a
meaning on a machine without a GPU (the rounding of fp32 against float64).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from models import Critic
from tests.reference import plain
from trainer.config.schema import GanConfig
from trainer.distributed.world import World
from trainer.stages.base import LAYOUT
from trainer.steps.batches import Reals
from trainer.steps.gan_step import Penalties

TERMS, GRADIENTS, UPDATES = 1e-4, 1e-4, 1e-3  # relative
EPS = 2.0**-23  # of fp32

VAES = ("VAE", "beta-VAE", "FactorVAE")
CONVS = ("GAN", "ID-GAN", "InfoGAN", "cGAN")  # Table A.3
RESNETS = {  # system, px, alpha: all with a bottleneck; q sees images below 64 px enlarged
    "ResNet": ("ID-GAN", 64, None),
    "ResNet in a fade": ("ID-GAN", 64, 0.3),
    "ResNet in a fade below 64 px": ("ID-GAN", 16, 0.3),
    "ResNet InfoGAN": ("InfoGAN", 16, 0.3),
    "ResNet cGAN": ("cGAN", 16, 0.3),
}
Gradients = list[list[Tensor]]


@contextmanager
def gradients_of_steps() -> Iterator[Gradients]:
    """At each optimizer step from here on, its gradients in float64 on the CPU; a missing one is zero."""
    kept: Gradients = []

    def keep(optimizer: Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        kept.append([g.detach().to("cpu", torch.float64, copy=True) for g in found])

    handle = register_optimizer_step_pre_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


def values(network: nn.Module) -> list[Tensor]:
    return [p.detach().to("cpu", torch.float64, copy=True) for p in network.parameters()]


def on(batch: Any, device: torch.device) -> Any:
    """A batch on the device, in fp32 where it has fractions."""
    moved = [None if t is None else t.to(device, torch.float32 if t.is_floating_point() else t.dtype) for t in batch]
    return type(batch)(*moved)


def place(network: nn.Module, device: torch.device) -> None:
    """As the trainer's stages do."""
    network.to(device, torch.float32).to(memory_format=LAYOUT)


class Comparison:
    """Networks of both sides, before and after an iteration, in the order in which they are moved."""

    def __init__(self, ours: dict[str, nn.Module], theirs: dict[str, nn.Module]) -> None:
        self.ours, self.theirs = ours, theirs
        self.before = {name: (values(ours[name]), values(theirs[name])) for name in ours}

    def check(self, found: Gradients, expected: Gradients, average_of: dict[str, str]) -> None:
        """average_of: networks that no optimizer moves, and the one whose average they are."""
        trained = [name for name in self.ours if name not in average_of]
        assert len(found) == len(expected) == len(trained)
        by_name = dict(zip(trained, expected, strict=True))
        for name, a, b in zip(trained, found, expected, strict=True):
            self._same_gradients(name, a, b)
        for name in self.ours:
            self._same_updates(name, by_name[average_of.get(name, name)])

    def _same_gradients(self, name: str, found: list[Tensor], expected: list[Tensor]) -> None:
        """Each parameter's, against its own norm; one whose gradient is next to nothing, against the network's too."""
        whole = flat(expected).norm()
        assert float(whole) > 0, f"{name}: the plain iteration has no gradient"
        for (key, _), a, b in zip(self.theirs[name].named_parameters(), found, expected, strict=True):
            gap, allowed = float((a - b).norm()), GRADIENTS * float(b.norm() + whole / 100)
            assert gap <= allowed, f"gradient of {name}.{key}: {gap:.1e} apart, allowed {allowed:.1e}"

    def _same_updates(self, name: str, gradients: list[Tensor]) -> None:
        """What the iteration added to each parameter, where the gradient is more than rounding.

        The first steps of RMSprop and Adam have the size of the learning rate whatever the gradient's: where that is
        rounding, so is the step's sign. Below a hundredth of the largest of its tensor nothing is promised.
        """
        starts, theirs = self.before[name], self.theirs[name]
        rows = zip(theirs.named_parameters(), values(self.ours[name]), *starts, gradients, strict=True)
        for (key, after), ours, begun, begun_plain, gradient in rows:
            clear = gradient.abs() >= gradient.abs().max() / 100
            expected = after.detach() - begun_plain
            beyond = (ours - begun - expected).abs() - UPDATES * expected.abs() - 2 * EPS * begun.abs()
            worst = float(beyond[clear].max())
            assert worst <= 0, f"update of {name}.{key}: {worst:.1e} more than allowed"


def same_terms(found: dict[str, Tensor], expected: dict[str, Tensor], unheard: Sequence[str] = ()) -> None:
    assert found.keys() == expected.keys() | set(unheard), found.keys() ^ expected.keys()
    for name, theirs in expected.items():
        a, b = float(found[name].detach()), float(theirs.detach())
        assert math.isclose(a, b, rel_tol=TERMS, abs_tol=1e-6), f"{name}: {a} on the device, {b} by the plain iteration"


def vae_step(system: str, device: torch.device) -> None:
    """Stage 1 with the networks of Table A.2, in two micro-batches."""
    vae, critic = plain.vae_networks(system)
    if critic is not None:
        critic = Critic(plain.C, "default").double()
    copies = copy.deepcopy((vae, critic))
    first, second = next(plain.vae_batches())
    networks = {name: n for name, n in (("vae", vae), ("critic", critic)) if n is not None}
    for network in networks.values():
        place(network, device)
    sides = Comparison(networks, dict(zip(networks, (n for n in copies if n is not None), strict=True)))
    with gradients_of_steps() as expected:
        theirs = plain.PlainVae(*copies).iterate(first, second, plain.BETAS[system][0])
    step = plain.vae_step(plain.vae_config(system), vae, critic, World(0, 1, device, None))
    pieces = [[on(piece, device) for piece in plain.pieces(batch, 2)] for batch in (first, second)]
    with gradients_of_steps() as found:
        ours = step(pieces[0], pieces[1] if critic is not None else [], 0)
    same_terms(ours, theirs, ["active_latents"])
    sides.check(found, expected, {})


def conv_step(system: str, device: torch.device) -> None:
    """Stage 2 with the networks of Table A.3."""
    _gan_step(plain.gan_config(system), plain.gan_networks(system), next(plain.gan_batches()), device)


def resnet_step(name: str, device: torch.device) -> None:
    """Stage 2 with the ResNets: the trunk up to 64 px, where the enlarging convolutions are the transposed ones."""
    system, size, alpha = RESNETS[name]
    config = plain.grown_config(system, resolution=64)
    _gan_step(config, plain.grown_networks(config), next(plain.gan_batches(size=size, alpha=alpha)), device)


def _gan_step(config: GanConfig, gan: plain.Gan, batch: Reals, device: torch.device) -> None:
    """In two micro-batches."""
    copied = copy.deepcopy(gan)
    for network in (gan.G, gan.D, gan.q, gan.average):
        place(network, device)
    step = plain.gan_step(config, gan, World(0, 1, device, None))
    order = ("D", "G", "q", "average")  # in which the optimizers step
    ours_then_theirs = (g.trained(config.system) for g in (gan, copied))
    sides = Comparison(*({name: nets[name] for name in order if name in nets} for nets in ours_then_theirs))
    with gradients_of_steps() as expected:
        rederived = plain.PlainGan(config.system, copied, config.r1)
        theirs = rederived.iterate(batch)
    with gradients_of_steps() as found:
        ours = step([on(piece, device) for piece in plain.pieces(batch, 2)], Penalties(config.r1), 0, plain.BATCH)
    same_terms(ours, theirs)
    if config.bottleneck:
        same_terms({"beta after it": step.kl_constraint.beta}, {"beta after it": torch.tensor(rederived.beta)})
    sides.check(found, expected, {"average": "G"})
