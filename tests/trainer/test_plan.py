"""trainer plan: numbers that follow from others, a closed form, real iterations, and what the command says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import flops as closed
from common.errors import UserError
from tests.trainer.memory.test_estimate import ALONE, CHANNELS, config_of, encoder_of, training
from tests.trainer.memory.test_estimate import iterate as really
from trainer.machine_rates import Rates, read_rates
from trainer.memory.flops import Flops
from trainer.plan import Plan, Planner, bytes_sent, images_of
from trainer.stages.gan import GanTraining
from trainer.steps import schedule

RATES = Rates(machine="planner", flops_per_second={64: 1e9, 1024: 4e9}, save_bytes_per_second=1e6)
GROWN: dict[str, Any] = {
    "resolution": 16,
    "batch_size": 4,
    "micro_batch": 2,
    "r1_interval": 4,
    "growth": {"start_resolution": 8, "phase_kimg": 0.2, "fade_kimg": 0.1, "batch_size": {8: 8}},
    "checkpointing": {"from_resolution": 8},
    "schedule": {"total_kimg": 1},
}


@pytest.mark.parametrize("every", [1, 16])
def test_flops_are_those_of_the_closed_form(every: int) -> None:
    size = closed.Size(16, 4, 16, 2, True)
    network = {"name": "resnet", "nf": size.nf, "nf_max": size.nf_max}
    config = config_of(network=network, resolution=16, batch_size=2, s_dim=closed.S, c_dim=closed.C, r1_interval=every)
    planner = Planner(config, 1)
    expected = (closed.ours(size, closed.r1_in_one_pass) + (every - 1) * closed.ours(size, closed.no_r1)) / every
    assert planner.flops[planner.phases[0]] == expected


def test_flops_are_those_of_the_strategys_own_passes() -> None:
    """What splits networks, or compiles, takes R1's two passes."""
    size = closed.Size(16, 4, 16, 2, True)
    network = {"name": "resnet", "nf": size.nf, "nf_max": size.nf_max}
    shape = {"network": network, "resolution": 16, "batch_size": 2, "s_dim": closed.S, "c_dim": closed.C}
    for more in ({"strategy": "fsdp2"}, {"compile": True}):
        planner = Planner(config_of(**shape, **more), 2)
        assert planner.flops[planner.phases[0]] == closed.ours(size, closed.r1_in_two_passes), more


@pytest.fixture(scope="module")
def alone() -> Planner:
    return Planner(config_of(**GROWN), 1)


@pytest.mark.parametrize("images_seen", [0, 8], ids=["R1 due", "not due"])
def test_flops_are_those_of_real_iterations(images_seen: int, alone: Planner) -> None:
    """In every phase of a run that grows, with checkpoints and micro-batches: the 24 images are each passed once."""
    config, planner = alone.config, alone
    for phase in planner.phases:
        real = GanTraining(config, ALONE, CHANNELS, encoder_of(config))
        with Flops() as counted:
            really(real, config, phase, images_seen)
        assert planner.iteration_flops[phase][images_seen > 0] * phase.batch_size == counted.total


@pytest.fixture(scope="module")
def grown() -> Planner:
    return Planner(config_of(**GROWN), 2)


@pytest.fixture(scope="module")
def planned(grown: Planner) -> Plan:
    return grown.plan(RATES)


def test_images_and_days_follow_the_schedule(grown: Planner, planned: Plan) -> None:
    assert [row.worst.resolution for row in planned.resolutions] == [8, 16]
    assert [row.images for row in planned.resolutions] == [200, 800]
    work = sum(count * grown.flops[phase] for phase, count in zip(grown.phases, (200, 100, 700), strict=True))
    assert planned.days == pytest.approx(work / 2 / 1e9 / 86_400)
    by_rate = grown.plan(RATES, 10.0)
    assert by_rate.days == pytest.approx(work / grown.flops[grown.phases[-1]] / 10 / 86_400)


def test_a_rate_given_is_the_time_of_a_run_that_does_not_grow() -> None:
    config = config_of(resolution=16, schedule={"total_kimg": 10})
    assert Planner(config, 1).plan(RATES, images_per_second=5).days == pytest.approx(10_000 / 5 / 86_400)


def test_a_run_that_ends_early_has_no_later_phases() -> None:
    phases = schedule.phases(16, 4, config_of(**GROWN).growth)
    assert [images_of(phase, 1000) for phase in phases] == [200, 100, 700]
    assert [images_of(phase, 250) for phase in phases] == [200, 50, 0]


def test_the_rate_is_that_of_the_nearest_size() -> None:
    assert [RATES.at(r) for r in (16, 64, 128, 256, 512, 2048)] == [1e9, 1e9, 1e9, 4e9, 4e9, 4e9]


def test_a_checkpoint_has_what_the_registry_has(planned: Plan) -> None:
    config = config_of(**GROWN)
    state = training(config, ALONE, encoder_of(config)).state.state_dict()
    assert planned.state == sum(tensor.nbytes for tensor in state.values())
    assert planned.saving == pytest.approx(planned.state / 2 / 1e6)
    weights = sum(tensor.nbytes for name, tensor in state.items() if name.startswith("generator."))
    assert planned.networks["G"].weights == weights


def test_sharding_pays_from_the_named_width_on() -> None:
    def gain(nf: int, nf_max: int) -> str:
        network = {"name": "resnet", "nf": nf, "nf_max": nf_max}
        planner = Planner(config_of(resolution=16, batch_size=4, r1=0, network=network), 4)
        return planner.sharding_gain(planner.plan(RATES))

    named = re.search(r"gains nothing here: .*; 20% less needs network.nf=(\d+) network.nf_max=(\d+) or", gain(16, 64))
    assert named
    nf, nf_max = map(int, named.groups())
    assert (nf, nf_max) == (32, 128)
    assert gain(nf, nf_max).startswith("Sharding pays here: with the same passes fsdp2 takes ")


def test_one_process_shards_nothing() -> None:
    planner = Planner(config_of(resolution=16), 1)
    plan = planner.plan(RATES)
    assert list(plan.sent) == ["ddp"]
    assert planner.sharding_gain(plan) == "One process has nothing to shard."


def test_gradients_are_summed_once_in_a_ring() -> None:
    config = config_of(resolution=16)
    networks, _ = Planner(config, 4).networks()
    whole = networks["G"].weights + networks["D"].weights
    assert bytes_sent("ddp", networks, config, 4) == 2 * 3 / 4 * whole
    assert bytes_sent("ddp", networks, config, 1) == 0


def test_batches_that_do_not_split_are_refused() -> None:
    with pytest.raises(UserError, match="batch_size: 4 does not divide by 3 processes"):
        Planner(config_of(resolution=16), 3)


def test_the_shipped_rates_are_read(tmp_path: Path) -> None:
    for path in sorted(Path("trainer/rates").glob("*.yaml")):
        assert set(read_rates(path).flops_per_second) == {64, 256, 1024}
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({"machine": "x", "flops_per_second": {}, "save_bytes_per_second": 0}))
    with pytest.raises(UserError, match=r"(?s)flops_per_second.*save_bytes_per_second"):
        read_rates(wrong)
