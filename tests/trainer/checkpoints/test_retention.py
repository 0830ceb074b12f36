"""Which checkpoints stay, by hand and in a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.training import BATCH, finish, train
from trainer.checkpoints import published
from trainer.checkpoints.retention import Retention


@pytest.mark.parametrize(
    ("keep", "clocks", "best", "expected"),
    [
        (Retention(2), [10, 20, 30], None, {20, 30}),
        (Retention(2), [10], None, {10}),
        (Retention(2), [10, 20, 30, 40], 20, {20, 30, 40}),
        (Retention(2), [10, 20, 30], 15, {20, 30}),  # `best` names a step that is gone
        (
            Retention(2, 0.1),
            [50, 90, 110, 140, 210, 260, 290],
            None,
            {110, 210, 260, 290},
        ),  # first after 100, 200
        (Retention(2, 0.1), [50, 90], None, {50, 90}),
    ],
)
def test_the_newest_the_best_and_one_of_each_stretch_stay(
    keep: Retention, clocks: list[int], best: int | None, expected: set[int]
) -> None:
    assert keep.kept(clocks, best) == expected
    assert keep.kept(clocks[::-1], best) == expected


def test_what_is_kept_stays_kept() -> None:
    """Step by step: no step that once survived as the first of its stretch is dropped later."""
    keep, there = Retention(2, 0.1), set[int]()
    for clock in range(30, 1000, 30):
        there = keep.kept([*there, clock], None)
    assert there == {120, 210, 300, 420, 510, 600, 720, 810, 900, 960, 990} - {960} | {960}


def test_a_run_keeps_what_its_schedule_says(sprites: Path, tmp_path: Path) -> None:
    run, every = tmp_path / "run", 10 * BATCH / 1000
    finish(train("vae", sprites, run, 12, schedule__save_kimg=BATCH * 2 / 1000, schedule__keep_every_kimg=every))
    (published.folder(run) / "best").write_text(published.name_of(160) + "\n")
    finish(train("vae", sprites, run, 24, schedule__save_kimg=BATCH * 2 / 1000, schedule__keep_every_kimg=every))
    assert [int(path.name[5:]) // BATCH for path in published.steps(run)] == [24, 22, 20, 10]
    finish(train("vae", sprites, run, 28, schedule__save_kimg=BATCH * 2 / 1000))
    assert [int(path.name[5:]) // BATCH for path in published.steps(run)] == [28, 26, 10]  # `best` points to the 10th
