"""The learning rate is a function of the clock: by hand, in the steps of every network, and over a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.reference import plain
from tests.support.training import VAE, differences, finish, newest, train
from tests.trainer.config.test_config import refusal
from trainer.config.changes import Change
from trainer.config.schema import GanConfig, VaeConfig
from trainer.config.sections import AdamConfig, RMSpropConfig
from trainer.steps import schedule
from trainer.steps.gan_step import Penalties

SCHEDULE = [[0.1, 1], [0.2, 0.1]]


def test_the_rate_by_hand() -> None:
    config = RMSpropConfig(lr=1e-3, lr_schedule=((10, 1), (20, 0.1)))
    found = [schedule.learning_rate(config, n) for n in (0, 10_000, 15_000, 20_000, 10**9)]
    assert found == pytest.approx([1e-3, 1e-3, 0.55e-3, 1e-4, 1e-4], rel=1e-12)
    assert schedule.learning_rate(AdamConfig(lr=2e-4), 5000) == 2e-4


def moved(system: str, clock: int, **more: Any) -> dict[str, torch.Tensor]:
    """How far every trained tensor went in one iteration from the same weights."""
    optimizer = {"name": "rmsprop", "lr": 1e-3, "lr_schedule": SCHEDULE}
    if system in plain.VAES:
        adam = {"name": "adam", "lr": 1e-3, "lr_schedule": SCHEDULE}
        critic = {"optimizer_critic": adam} if system == "FactorVAE" else {}
        config = plain.vae_config(system, optimizer=adam, **critic)
        vae, judge = plain.vae_networks(system)
        networks = {"vae": vae} | ({"critic": judge} if judge else {})
        step: Any = plain.vae_step(config, vae, judge, plain.ALONE)
        batches: tuple[Any, ...] = tuple([b] for b in next(iter(plain.vae_batches())))
        arguments: tuple[Any, ...] = (batches[0], batches[1] if judge else [], clock)
    else:
        q = {"optimizer_q": optimizer} if system == "InfoGAN" else {}
        gan = plain.gan_networks(system)
        networks = {name: n for name, n in gan.trained(system).items() if name != "average"}
        step = plain.gan_step(
            plain.gan_config(system, optimizer_g=optimizer, optimizer_d=optimizer, **q), gan, plain.ALONE
        )
        arguments = ([next(iter(plain.gan_batches()))], Penalties(10), clock, plain.BATCH)
    before = {f"{n}.{k}": p.detach().clone() for n, net in networks.items() for k, p in net.named_parameters()}
    step(*arguments)
    after = {f"{n}.{k}": p.detach() for n, net in networks.items() for k, p in net.named_parameters()}
    return {name: after[name] - before[name] for name in before}


@pytest.mark.parametrize("system", ["FactorVAE", "InfoGAN"])
def test_every_network_steps_by_the_rate_of_its_clock(system: str) -> None:
    """D's update is exactly a tenth late in the schedule; G's gradient sees the D that has moved, so it is nearly."""
    early, late = moved(system, 0), moved(system, 10**6)
    assert {name.split(".")[0] for name in early} >= {"G", "D", "q"} if system == "InfoGAN" else {"vae", "critic"}
    for name, far in early.items():
        if not float(far.norm()):
            continue
        ratio = float(late[name].norm() / far.norm())
        exact = name.startswith(("D.", "vae."))
        assert ratio == pytest.approx(0.1, rel=1e-6 if exact else 0.2), name


def test_a_resume_in_the_course_is_bit_for_bit(sprites: Path, tmp_path: Path) -> None:
    schedule = "[[0.032, 1], [0.16, 0.1]]"
    finish(train("vae", sprites, tmp_path / "straight", 9, optimizer__lr_schedule=schedule))
    for steps in (4, 9):
        finish(train("vae", sprites, tmp_path / "run", steps, optimizer__lr_schedule=schedule))
    finish(train("vae", sprites, tmp_path / "constant", 9))
    assert not differences(newest(tmp_path / "straight"), newest(tmp_path / "run"))
    assert differences(newest(tmp_path / "straight"), newest(tmp_path / "constant"))


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("[[20, 1], [10, 0.1]]", "optimizer.lr_schedule: found [[20, 1], [10, 0.1]]: the kimg of its points must rise"),
        ("[[10, 0]]", "optimizer.lr_schedule.0.1: found 0"),
        ("[[-1, 1]]", "optimizer.lr_schedule.0.0: found -1"),
    ],
)
def test_a_course_that_cannot_be_is_refused(schedule: str, words: str) -> None:
    assert words in refusal(VaeConfig, Path(VAE), f"optimizer.lr_schedule={schedule}")


def test_the_papers_rates_are_constant() -> None:
    assert GanConfig.model_fields["optimizer_g"].default.lr_schedule == ()


def test_a_course_may_come_on_the_way_and_another_optimizer_may_not() -> None:
    """With --accept-changes, which does not let through what shapes a checkpoint's tensors."""
    assert not Change("optimizer_g.lr_schedule", None, []).is_in_checkpoint
    assert Change("optimizer_g.name", "adam", "rmsprop").is_in_checkpoint
    assert Change("optimizer_q.name", None, "adam").is_in_checkpoint
