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


@pytest.mark.parametrize("name", RESULTS)
def test_it_trains(name: str, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    few = re.sub(r"--all|--count \d+", "--count 8", " ".join(making(name))).split()
    for module, argv in (("data_shards", [*few, "--workers", "1"]), ("trainer", [*training(name), *SMALL])):
        finish(processes.start(processes.module_in, (str(tmp_path), module, argv), tmp_path / "logs"))
    stats = tmp_path / "runs" / name.replace("/", "-") / "stats.jsonl"
    assert [json.loads(line)["images_seen"] for line in stats.read_text().splitlines()] == [2, 4, 6, 8]
