"""benchmarks/memory.py: what ours keeps alive against plain, and the promises made of it."""

from __future__ import annotations

from dataclasses import replace

from benchmarks import memory, step
from benchmarks.flops import Size

SIZE = Size(256, 16, 64, 4, True)


def test_the_targets_at_1024_px() -> None:
    """Batch 4 at full width: what docs/performance.md tells. The whole size takes no memory here, only seconds.

    Takes more than ten seconds: two iterations on fake tensors of each of four variants at 1024 px.
    """
    size = replace(step.SIZES[1024], batch=4)
    plain, ours, block, single = (
        memory.peaks(name, size)
        for name in ("plain", "ours", "ours, a checkpoint a block", "ours, micro_batch 1, a checkpoint a block")
    )
    assert min(ours.steps["D"], block.steps["D"]) <= 0.55 * plain.steps["D"]
    assert block.steps["G"] <= 0.42 * plain.steps["G"]
    assert max(single.steps.values()) <= 0.22 * max(plain.steps.values())


def test_each_step_is_timed() -> None:
    ratios = memory.seconds(Size(32, 2, 4, 1, True), ["ours", "ours, micro_batch 1"], 2)
    assert ratios["ours"] == {"D": 1, "G": 1}
    assert all(0.1 < ratio < 10 for ratio in ratios["ours, micro_batch 1"].values())


def test_ours_needs_less_than_plain_and_micro_batches_divide_it() -> None:
    """Takes more than ten seconds: two iterations on fake tensors of each of four variants."""
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
