"""A rates file: what a machine was measured to do. `python -m trainer plan` computes days from it."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import Field, PositiveFloat

from trainer.config.load import load_config
from trainer.config.settings import Settings

CPU_RATES = Path(__file__).parent / "rates" / "cpu.yaml"


class Rates(Settings):
    """A rates file, such as trainer/rates/cpu.yaml: what one process on a machine was measured to do."""

    machine: str = Field(description="the machine that was measured, in words")
    flops_per_second: dict[int, PositiveFloat] = Field(
        min_length=1, description="speed of an iteration by resolution, as benchmarks/step.py measures it"
    )
    save_bytes_per_second: PositiveFloat = Field(description="speed of saving, as benchmarks/saving.py measures it")

    def at(self, resolution: int) -> float:
        """Return the FLOP/s at the nearest resolution that was measured, in octaves; of two the larger."""
        return self.flops_per_second[min(self.flops_per_second, key=lambda r: (abs(math.log2(r / resolution)), -r))]


def read_rates(path: Path) -> Rates:
    """Read a rates file. Raises a UserError that names what is wrong with it."""
    return load_config(Rates, path)
