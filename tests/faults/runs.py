"""A run of two ranks that has every phase, with and without faults."""

from __future__ import annotations

from pathlib import Path

from tests.support import processes
from tests.support.training import BATCH, GAN, differences, newest, overrides

from .injector import SIGNALS, Phase, failing

STEPS = 9  # iterations; a sample every 3, a checkpoint every 2, R1 in every second one
SETTINGS = {
    "network": "{name: resnet, nf: 2, nf_max: 8}",
    "growth": "{start_resolution: 16, phase_kimg: 0.048, fade_kimg: 0.064}",
    "bottleneck": "{}",
    "s_dim": 3,
    "r1_interval": 2,
    "schedule__save_kimg": 2 * BATCH / 1000,
    "schedule__sample_kimg": 3 * BATCH / 1000,
    "processes": 2,
}


def argv_of(data: Path, vae: Path, run: Path, strategy: str, steps: int = STEPS) -> list[str]:
    return ["gan", GAN, *overrides(data, run, steps, vae=vae, strategy=strategy, **SETTINGS)]


def finish(argv: list[str], folder: Path) -> str:
    """Run both ranks to the end, and return what the main one printed."""
    both = processes.ranks(2, "trainer", argv, folder)
    for rank in both:
        assert rank.wait(240) == 0, rank.err
    return both[0].err


def break_and_go_on(argv: list[str], at: int, phase: Phase, name: str, folder: Path) -> tuple[list[int], str]:
    """Fail, then run to the end. Returns the exit codes of the failure, and what the main rank printed after it."""
    port = str(processes.free_port())
    both = [
        processes.start(
            failing, (argv, at, phase, SIGNALS[name]), folder / f"broken{rank}", processes.rank_env(rank, 2, port)
        )
        for rank in range(2)
    ]
    codes = [rank.wait(120) for rank in both]
    return codes, finish(argv, folder / "again")


def assert_same_end(straight: Path, run: Path) -> None:
    """Every tensor, bit for bit; sums of statistics apart, of which each rank has its own till the end of a tick."""
    assert [name for name in differences(newest(straight), newest(run)) if not name.startswith("stats.")] == []
