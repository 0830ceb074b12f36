"""What does not fit is refused with a remedy that fits."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from trainer.config.schema import GanConfig
from trainer.config.sections import ResNetConfig, Strategy
from trainer.memory import estimate, fit
from trainer.steps.schedule import Phase

from . import test_estimate as settings


@dataclass(frozen=True)
class Remembering(estimate.Estimator):
    """An estimator that runs the iteration of the same settings once: what it finds is a function of them."""

    found: dict[object, list[dict[Strategy, estimate.Need]]] = field(default_factory=dict)

    def needs(
        self, config: GanConfig, phases: Sequence[Phase], strategies: Sequence[Strategy]
    ) -> list[dict[Strategy, estimate.Need]]:
        key = config.model_dump_json(), tuple(phases), tuple(strategies)
        if key not in self.found:
            self.found[key] = super().needs(config, phases, strategies)
        return self.found[key]


def estimator(config: GanConfig) -> Remembering:
    return Remembering(settings.training, settings.encoder_of(config), settings.CHANNELS, settings.ALONE)


def fits(one: estimate.Estimator, config: GanConfig, free: int) -> bool:
    return one.need(config).bytes * fit.MARGIN["cpu"] <= free


def test_what_cannot_fit_is_refused_with_the_largest_micro_batch_that_fits() -> None:
    """Takes more than ten seconds: an iteration on fake tensors for each micro_batch that is tried."""
    config = settings.config_of(batch_size=8, resolution=64)
    one = estimator(config)
    need = one.need(config)
    assert fit.problem(one, config, need, int(need.bytes * 1.31)) is None
    free = int(need.bytes * 0.8)
    message = fit.problem(one, config, need, free)
    assert message is not None
    assert message.startswith("micro_batch: 8 images a pass at 64 px need ")
    assert estimate.gb(free) in message
    assert estimate.gb(need.bytes) in message
    named = re.search(r"set micro_batch=(\d+), the largest that fits", message)
    assert named, message
    size = int(named[1])
    larger = {1: 2, 2: 4, 4: 8}[size]
    assert fits(one, settings.config_of(batch_size=8, resolution=64, micro_batch=size), free)
    assert not fits(one, settings.config_of(batch_size=8, resolution=64, micro_batch=larger), free)


def test_auto_takes_the_largest_pass_that_fits_at_each_resolution() -> None:
    """Takes more than ten seconds: an iteration on fake tensors for each pass that is tried."""
    growth = {"start_resolution": 16, "phase_kimg": 1, "fade_kimg": 1, "batch_size": {16: 6}}
    config = settings.config_of(batch_size=4, resolution=32, growth=growth, micro_batch="auto")
    one = estimator(config)

    def room(resolution: int, size: int) -> float:
        phase = next(phase for phase in one.phases(config) if phase.resolution == resolution)
        (needs,) = one.needs(config.model_copy(update={"micro_batch": size}), [phase], ["ddp"])
        return fit.with_margin(one, needs["ddp"])

    free = int((room(32, 4) + room(32, 2)) / 2)
    found = {resolution: need.images for resolution, need in fit.largest_passes(one, config, free).items()}
    assert found[32] == 2
    larger = {1: 2, 2: 3, 3: 6}.get(found[16])
    assert room(16, found[16]) <= free
    assert larger is None or room(16, larger) > free
    nothing = fit.largest_passes(one, config, 1)
    assert {resolution: need.images for resolution, need in nothing.items()} == {16: 1, 32: 1}


def test_where_no_micro_batch_fits_narrower_networks_are_named() -> None:
    """Takes more than ten seconds: an iteration on fake tensors for each width that is tried."""
    config = settings.config_of(resolution=64, batch_size=2)
    one = estimator(config)
    message = fit.problem(one, config, one.need(config), 5_000_000)
    named = re.search(r"network.nf=(\d+) network.nf_max=(\d+) it does", str(message))
    assert named, message
    network = {"name": "resnet", "nf": int(named[1]), "nf_max": int(named[2])}
    more = {"micro_batch": 1, "checkpointing": settings.CHECKPOINTING, "network": network}
    assert fits(one, settings.config_of(resolution=64, batch_size=2, **more), 5_000_000)
    assert "choose a smaller network" in str(fit.problem(one, config, one.need(config), 1000))


@pytest.mark.parametrize("fewest", [1, 4])
def test_the_remedy_names_the_fewest_channels_that_it_counted_with(fewest: int) -> None:
    """Here a network needs as many bytes as it has channels in all its blocks: nf of the last, nf_min at least."""
    network = {"name": "resnet", "nf": 8, "nf_max": 8, "nf_min": fewest}
    config = settings.config_of(resolution=64, batch_size=1, network=network)

    class Counting:
        world = estimator(config).world

        def need(self, config: GanConfig) -> SimpleNamespace:
            assert isinstance(config.network, ResNetConfig)
            return SimpleNamespace(bytes=max(config.network.nf, config.network.nf_min), images=1, resolution=64)

        def phases(self, config: GanConfig) -> list[SimpleNamespace]:
            return [SimpleNamespace(batch_size=1)]

    one: Any = Counting()
    message = fit.problem(one, config, one.need(config), math.ceil(2 * fit.MARGIN["cpu"]))
    assert message is not None
    assert "network.nf=2 network.nf_max=2" in message
    assert ("network.nf_min=1 it does" in message) == (fewest > 1)
