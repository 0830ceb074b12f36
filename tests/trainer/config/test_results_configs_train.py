"""The recipes of the shipped models train at a small size by the commands of their headers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.shipped_configs import RESULTS, making, training
from tests.support.training import finish

ROOT = Path(__file__).parents[3]
SMALL = ["batch_size=2", "schedule.total_kimg=0.008", "schedule.tick_kimg=0.002", "schedule.sample_kimg=1000"]

GROWS = {
    "results/faces_256_idgan": ["growth.fade_kimg=0.002", "growth.phase_kimg_at={64: 0.002, 128: 0.002, 256: 0.002}"]
}


@pytest.mark.parametrize("name", RESULTS)
def test_it_trains(name: str, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    few = re.sub(r"--all|--count \d+", "--count 8", " ".join(making(name))).split()
    train = [*training(name), *SMALL, *GROWS.get(name, [])]
    for module, argv in (("data_shards", [*few, "--workers", "1"]), ("trainer", train)):
        finish(processes.start(processes.module_in, (str(tmp_path), module, argv), tmp_path / "logs"))
    stats = tmp_path / "runs" / name.replace("/", "-") / "stats.jsonl"
    ticks = [json.loads(line) for line in stats.read_text().splitlines()]
    assert [tick["images_seen"] for tick in ticks] == [2, 4, 6, 8]
    if name in GROWS:
        assert [tick["resolution"] for tick in ticks] == [64, 128, 128, 256]
