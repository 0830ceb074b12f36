"""benchmarks/memory.py: what ours keeps alive against plain, and the promises made of it."""

from __future__ import annotations

from benchmarks import memory
from benchmarks.flops import Size

SIZE = Size(256, 16, 64, 4, True)


def test_ours_needs_less_than_plain_and_micro_batches_divide_it() -> None:
    plain, ours, block, single = (
        memory.peaks(name, SIZE)
        for name in ("plain", "ours", "ours, a checkpoint a block", "ours, micro_batch 1, a checkpoint a block")
    )
    assert ours.apart == plain.apart
    assert block.steps["D"] < 0.55 * plain.steps["D"]
    assert block.steps["G"] < 0.5 * plain.steps["G"]
    assert block.steps["G"] < ours.steps["G"]
    for name in ("D", "G"):
        assert single.steps[name] < 0.22 * plain.steps[name]
