"""One iteration of each network family on the GPU, in fp32, against the plain iteration in float64 on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from . import exact


@pytest.fixture(autouse=True)
def strict(as_the_trainer_sets_it: None) -> Iterator[None]:
    """An operation without a deterministic implementation is an error here; the trainer only warns."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(True, warn_only=True)


@pytest.mark.parametrize("system", exact.VAES)
def test_stage_1(system: str, device: torch.device) -> None:
    exact.vae_step(system, device)


@pytest.mark.parametrize("system", exact.CONVS)
def test_stage_2_with_the_networks_of_table_a3(system: str, device: torch.device) -> None:
    exact.conv_step(system, device)


@pytest.mark.parametrize("name", exact.RESNETS)
def test_stage_2_with_resnets(name: str, device: torch.device) -> None:
    exact.resnet_step(name, device)
