"""The help of the trainer's commands answers at once: torch is imported by what trains."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.start_up import start_up

HEAVY = {"torch", "numpy", "PIL", "accelerate", "deepspeed", "torchvision", "safetensors", "wandb", "mlflow"}


@pytest.mark.parametrize("args", [("--help",), ("gan", "--help"), ("plan", "--help"), ("settle", "--help")])
def test_help_takes_less_than_a_second_and_150_mb(args: tuple[str, ...]) -> None:
    took = start_up("trainer", *args)
    assert HEAVY & took.modules == set()
    assert took.seconds < 1.0  # of CPU: a busy machine takes longer
    assert took.megabytes < 150


def test_importing_the_trainer_imports_no_torch() -> None:
    script = "import sys, trainer; assert 'torch' not in sys.modules; trainer.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "line",
    [
        "from trainer import own_encoder; own_encoder.export",
        "import trainer.own_encoder; trainer.own_encoder.export",
        "from trainer.own_encoder import export",
        "import trainer; trainer.own_encoder.export",
    ],
)
def test_the_public_names_are_imported_in_every_way(line: str) -> None:
    subprocess.run([sys.executable, "-c", line], check=True)
