"""Processes that no longer hold the same bits stop, and say where they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import processes
from tests.support.training import VAE, overrides
from trainer.checkpoints import published
from trainer.distributed import divergence
from trainer.steps.vae_step import VaeStep

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bfloat16])
def test_any_changed_bit_and_any_swap_changes_a_fingerprint(dtype: torch.dtype) -> None:
    values = (torch.arange(60).reshape(6, 10) * 3 + 1).to(dtype)
    (before,) = divergence.fingerprints({"x": values}, CPU)
    assert divergence.fingerprints({"x": values.clone()}, CPU).tolist() == [int(before)]
    found = {int(before)}
    for at in range(0, values.numel() * values.element_size(), 7):
        for bit in (0, 7):
            changed = values.clone()
            changed.view(torch.uint8).view(-1)[at] ^= 1 << bit
            found.add(int(divergence.fingerprints({"x": changed}, CPU)))
    swapped = values.flatten()[torch.tensor([1, 0, *range(2, 60)])]
    found.add(int(divergence.fingerprints({"x": swapped}, CPU)))
    assert len(found) == 2 + 2 * len(range(0, values.numel() * values.element_size(), 7))


def diverge(argv: list[str], at: int) -> None:
    """Train; rank 1 flips the last bit of one weight after an iteration."""
    import os

    count, step = [0], VaeStep.__call__

    def wrapped(self: VaeStep, *args: Any) -> Any:
        terms = step(self, *args)
        count[0] += 1
        if os.environ["RANK"] == "1" and count[0] == at:
            weight = next(self.vae.decoder.parameters()).data.view(torch.int32).view(-1)
            weight[0] ^= 1
        return terms

    VaeStep.__call__ = wrapped  # type: ignore[method-assign]
    processes.module("trainer", argv)


@pytest.mark.parametrize(("compare", "last"), [(1, 5), (1000, 5)])  # found at a tick, or before the next save
def test_a_flipped_bit_on_one_process_stops_all(sprites: Path, tmp_path: Path, compare: int, last: int) -> None:
    run, port = tmp_path / "run", str(processes.free_port())
    argv = ["vae", VAE, *overrides(sprites, run, 40, schedule__compare_ticks=compare)]
    ranks = [
        processes.start(diverge, (argv, 7), tmp_path / f"rank{rank}", processes.rank_env(rank, 2, port))
        for rank in range(2)
    ]
    for rank in ranks:
        assert rank.wait(120) == 2, rank.err
        assert "the processes hold different values of vae.decoder" in rank.err
        assert f"{published.name_of(16 * last)} is the last good checkpoint and nothing after it was kept" in rank.err
        assert "Traceback" not in rank.err
    assert [path.name for path in published.steps(run)] == [published.name_of(16 * last)]
