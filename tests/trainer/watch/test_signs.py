"""Each sign of a collapse by its threshold, and what is kept of the ticks before."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from tests.support.training import CONFIGS
from trainer.config.load import load_config
from trainer.config.schema import GanConfig, WatchConfig
from trainer.watch.history import History
from trainer.watch.sample_spread import spread
from trainer.watch.signs import Sign, signs, starts

HEALTHY = {"logit_real": 0.4, "logit_fake": -0.4, "grad_norm_d": 2.0, "grad_norm_g": 3.0}
USUAL = {"grad_norm_d": 1.0, "grad_norm_g": 1.0}
RESNET = ("network={name: resnet, nf: 4}", "bottleneck={}")


def gan(*overrides: str, system: str = "gan") -> GanConfig:
    return load_config(GanConfig, CONFIGS / f"{system}.yaml", overrides)


def of(
    config: GanConfig, at: int = 100_000, spread: float = 0.8, usual: dict[str, float] = USUAL, **terms: float
) -> list[Sign]:
    """The signs of a tick that is healthy but for what is given."""
    assert config.watch is not None
    return signs(config, config.watch, at, HEALTHY | terms, spread, usual)


def recorded(name: str) -> list[dict[str, float]]:
    """Ticks of trainings, from a file beside this one."""
    return [json.loads(line) for line in (Path(__file__).parent / name).read_text().splitlines()]


def test_a_healthy_tick_has_no_sign() -> None:
    assert of(gan()) == []
    assert of(gan(*RESNET), beta=0.3) == []
    assert of(gan(), usual={}) == []  # the first tick


@pytest.mark.parametrize(
    ("name", "healthy", "sick"),
    [
        ("logits", {"logit_real": 9.9, "logit_fake": -10}, {"logit_real": 10, "logit_fake": -10}),
        ("samples", {"spread": 0.0101}, {"spread": 0.01}),
        ("gradient_g", {"grad_norm_g": 0.00334}, {"grad_norm_g": 0.00333}),
        ("gradient_d", {"grad_norm_d": 0.00334}, {"grad_norm_d": 0.00333}),
        ("gradient_g", {"grad_norm_g": 299}, {"grad_norm_g": 301}),
        ("gradient_d", {"grad_norm_d": 299}, {"grad_norm_d": 301}),
        ("beta", {"beta": 99.9}, {"beta": 100}),
    ],
)
def test_a_sign_begins_at_its_threshold(name: str, healthy: dict[str, float], sick: dict[str, float]) -> None:
    config = gan(*RESNET)
    assert of(config, **({"beta": 0.1} | healthy)) == []
    (sign,) = of(config, **({"beta": 0.1} | sick))
    assert sign.name == name
    assert sign.value in [*sick.values(), 20]
    assert "watch." in sign.text


def test_thresholds_are_settings() -> None:
    config = gan(*RESNET, "watch={logit_gap: 2, sample_spread: 0.5, gradient_factor: 2, bottleneck_beta: 1}")
    sick = of(config, spread=0.4, logit_real=1.7, grad_norm_d=2.1, grad_norm_g=0.4, beta=1.5)
    assert {sign.name for sign in sick} == {"logits", "samples", "gradient_d", "gradient_g", "beta"}


def test_gradients_may_rise_from_nothing_at_the_start_but_not_vanish() -> None:
    start = 19_999
    assert of(gan(), at=start, grad_norm_g=5000.0, grad_norm_d=5000.0) == []
    assert [sign.name for sign in of(gan(), at=start, grad_norm_g=1e-4)] == ["gradient_g"]
    assert [sign.name for sign in of(gan(), at=start, usual={}, grad_norm_g=0.0)] == ["gradient_g"]


def test_the_remedy_names_the_settings_of_the_system() -> None:
    (sign,) = of(gan(system="infogan"), spread=0)
    assert "code_weight and optimizer_q.lr" in sign.remedy
    (sign,) = of(gan(), spread=0)
    assert "optimizer_g.lr" in sign.remedy
    assert "code_weight" not in sign.remedy


def test_what_is_usual_is_the_geometric_mean_of_ticks_without_a_sign() -> None:
    history = History()
    for clock, norm in enumerate((2.0, 8.0, 4.0), start=1):
        history.add(clock, [], {"grad_norm_d": 1.0, "grad_norm_g": norm})
    history.add(4, [Sign("gradient_g", 1e-9, "", "")], {"grad_norm_d": 1.0, "grad_norm_g": 1e-9})
    assert history.typical["grad_norm_g"] == pytest.approx((2 * 8 * 4) ** (1 / 3), rel=1e-12)
    assert history.typical["grad_norm_d"] == pytest.approx(1)


def test_a_streak_is_of_ticks_in_a_row_and_begins_with_its_first_tick() -> None:
    history, sign = History(images_seen=100), Sign("samples", 0.0, "", "")
    for clock, found in ((110, [sign]), (120, []), (130, [sign]), (140, [sign])):
        history.add(clock, found, HEALTHY)
    streak = history.streaks["samples"]
    assert (streak.began, streak.ticks) == (120, 2)
    history.add(150, [], HEALTHY)
    assert history.streaks == {}


def test_a_history_goes_through_json_bit_for_bit() -> None:
    history = History()
    for clock in range(1, 8):
        history.add(
            clock, [Sign("samples", 0.0, "", "")] if clock > 4 else [], {**HEALTHY, "grad_norm_g": math.pi * clock}
        )
    history.streaks["samples"].told = True
    again = History.from_json(json.loads(json.dumps(history.to_json())))
    assert again == history
    assert again.typical == history.typical


def test_the_spread_is_the_standard_deviation_over_images() -> None:
    images = torch.zeros(4, 1, 2, 2)
    assert spread(images) == 0
    images[:2, 0, 0, 0] = 1  # half of the images at one of four pixels: deviation 1/2 there
    assert spread(images) == pytest.approx(1 / 8)


def test_recorded_healthy_ticks_have_no_sign() -> None:
    """Eight trainings of ID-GAN on dSprites, from their stats.jsonl, at the default thresholds.

    The last one, 96 kimg, has the spread of samples. The others are from before that was recorded: 0.5 stands for it.
    """
    config, watch, history = gan(), WatchConfig(), History()
    ticks = recorded("healthy_ticks.jsonl")
    assert sum("sample_spread" in tick for tick in ticks) == 12
    for tick in ticks:
        if tick["images_seen"] < history.images_seen:
            history = History()  # another run
        found = signs(config, watch, tick["images_seen"], tick, tick.get("sample_spread", 0.5), history.typical)
        history.add(tick["images_seen"], found, tick)
        assert found == [], tick


def test_samples_are_alike_at_first_and_are_not_where_signs_begin_to_count() -> None:
    """The first 640 images of configs/dsprites/gan.yaml in batches of 16, a tick each, from its stats.jsonl.

    Its G draws nearly one image until image 400, and comes out of it: what `from_kimg` is for. No other sign is there.
    """
    config, watch, history = gan(), WatchConfig(), History()
    alike = []
    for tick in recorded("first_ticks.jsonl"):
        found = signs(config, watch, tick["images_seen"], tick, tick["sample_spread"], history.typical)
        history.add(tick["images_seen"], found, tick)
        assert {sign.name for sign in found} <= {"samples"}, tick
        alike += [tick["images_seen"] for _ in found]
        assert starts(watch, tick["images_seen"])
    assert len(alike) >= 3 * watch.ticks, "it would be told of without that stretch"
    assert alike[-1] < 0.05 * 1000 * watch.from_kimg
    assert tick["sample_spread"] > 10 * watch.sample_spread


def test_a_run_that_was_known_to_die_is_caught_before_half_of_it_is_spent() -> None:
    """InfoGAN on dSprites with lambda 0.03 and q's rate 1e-3, by the ticks that it wrote: 96 kimg were planned.

    Its q and its generator were dead after 2 kimg; G came back at 16 kimg, q did not. By the gradients alone: the ticks
    have no spread of samples yet. A tick was 1 kimg; longer ones are means of theirs.
    """
    config, watch = gan(system="infogan"), WatchConfig()
    ticks = recorded("dying_ticks.jsonl")
    for kimg in (1, 2, 5, 7):
        history, counted = History(), []
        for last in range(kimg, len(ticks) + 1, kimg):
            clock, part = ticks[last - 1]["images_seen"], ticks[last - kimg : last]
            means = {name: sum(tick[name] for tick in part) / kimg for name in ticks[0]}
            history.add(clock, signs(config, watch, clock, means, 0.5, history.typical), means)
            if clock >= 20_000 and any(streak.ticks >= watch.ticks for streak in history.streaks.values()):
                counted.append(clock)
        assert counted, kimg
        assert counted[0] < 48_000
        assert "gradient_q" in history.streaks
