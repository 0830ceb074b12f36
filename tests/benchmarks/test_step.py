"""benchmarks/step.py measures what it says: the same gradients on both sides, and FLOPs as torch counts them."""

from __future__ import annotations

import pytest
import torch

from benchmarks import step
from benchmarks.flops import Size, iteration_flops
from trainer.memory.flops import Flops

CPU = torch.device("cpu")


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("resolution", [64, 128])
def test_the_closed_form_counts_what_torch_counts(resolution: int, bottleneck: bool) -> None:
    size = Size(resolution, 4, 16, 2, bottleneck)
    expected = iteration_flops(size)
    for name, iterate in step.variants(size, CPU).items():
        with Flops() as counted:
            iterate()
        assert counted.total == expected[name], name


@pytest.mark.parametrize("bottleneck", [False, True])
def test_plain_tuned_and_ours_have_the_same_gradients(bottleneck: bool) -> None:
    size = Size(64, 4, 16, 3, bottleneck)
    gaps = step.gradient_gaps(size, CPU)
    assert set(gaps) == {("tuned", "G"), ("tuned", "D"), ("ours", "G"), ("ours", "D")}
    assert max(gaps.values()) < 1e-4, gaps


def test_a_profile_names_the_passes_of_the_trainer() -> None:
    lines = step.profiled(Size(64, 4, 16, 2, False), CPU, steps=1)
    passes = {line[:24].strip(): float(line.split()[-2]) for line in lines[1 : lines.index("")]}
    assert {"D real", "R1 pass 1", "R1 pass 2", "D fake", "G", "distillation", "optimizer step", "EMA"} <= set(passes)
    assert passes["optimizer step"] == 2
    assert passes["R1 pass 1"] == passes["D real"] == 1
    assert len(lines) - lines.index("") - 2 == 15
