"""The matrix: every point of an iteration, both signals, a replicated and a sharded strategy. `make test-faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.training import BATCH

from .injector import PHASES, SIGNALS, Phase
from .runs import argv_of, assert_same_end, break_and_go_on, finish

AT: dict[Phase, int] = {"data": 4, "R1": 5, "D": 5, "G": 6, "EMA": 6, "sample": 6, "save": 4}


@pytest.fixture(scope="module", params=["ddp", "fsdp2"])
def straight(
    request: pytest.FixtureRequest, sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    run = tmp_path_factory.mktemp(request.param) / "run"
    finish(argv_of(sprites, vae, run, request.param), run.parent / "logs")
    return request.param, run


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("phase", PHASES)
def test_a_fault_in_any_phase_costs_no_bit(
    phase: Phase, name: str, straight: tuple[str, Path], sprites: Path, vae: Path, tmp_path: Path
) -> None:
    strategy, unbroken = straight
    argv = argv_of(sprites, vae, tmp_path / "run", strategy)
    codes, printed = break_and_go_on(argv, AT[phase], phase, name, tmp_path)
    if name == "SIGTERM":  # the iteration that the signal came in is the last one, and is saved
        assert codes == [75, 75]
        assert f"resuming {tmp_path / 'run'} at {AT[phase] * BATCH} images" in printed
    else:
        assert codes[1] == -9
        assert codes[0] != 0
        assert "resuming" in printed
    assert_same_end(unbroken, tmp_path / "run")
