"""The positive control of `evaluation leaks` augments what it says, and records the command that it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import leak_control
from common.errors import UserError
from common.random_numbers import Purpose
from tests.support import processes
from tests.support.training import finish, overrides
from trainer.config.schema import DiffAugmentConfig
from trainer.distributed.world import ALONE
from trainer.steps.augment.augmenter import Augmenter

PROGRAM = Path(leak_control.__file__)
REALS, AT = torch.rand(2, 1, 16, 16), torch.arange(2)


@pytest.mark.parametrize("purpose", [p for p in Purpose if p.name.startswith("AUGMENT")])
def test_reals_are_augmented_and_generated_images_are_not(purpose: Purpose) -> None:
    augmenter = Augmenter(DiffAugmentConfig(kind="diffaugment"), 0, ALONE, torch.float32)
    seen = leak_control.of_reals_alone(augmenter, purpose, AT, REALS)(REALS)
    usual = augmenter.augmentation(purpose, AT, REALS)(REALS)
    assert torch.equal(seen, REALS if purpose in leak_control.OF_FAKES else usual)
    assert not torch.equal(usual, REALS)


def test_nothing_leaks_without_an_augmentation() -> None:
    with pytest.raises(UserError, match=r"augment: is not set, so nothing could leak; .* needs augment\.kind="):
        leak_control.of_reals_alone(Augmenter(None, 0, ALONE, torch.float32), Purpose.AUGMENT_REAL, AT, REALS)


def test_the_run_records_the_command(sprites: Path, tmp_path: Path) -> None:
    gan = "configs/dsprites/gan.yaml"
    argv = [gan, *overrides(sprites, tmp_path / "run", 2, gan), "augment.kind=diffaugment"]
    finish(processes.start(run, (str(PROGRAM), argv), tmp_path / "logs"))
    record = json.loads((tmp_path / "run" / "exit.json").read_text())
    assert f"python benchmarks/leak_control.py {gan}" in json.dumps(record)


def run(program: str, argv: list[str]) -> None:
    """Run the program as its file."""
    import runpy

    sys.argv = [program, *argv]
    runpy.run_path(program, run_name="__main__")
