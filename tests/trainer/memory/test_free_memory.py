"""Free memory, read from files as Linux writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.distributed.world import ALONE, World
from trainer.memory import free_memory


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 4000 kB free and a process in the control group `job`."""
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    (tmp_path / "cgroup").write_text("0::/job\n")
    monkeypatch.setattr(free_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(free_memory, "OWN_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(free_memory, "CGROUPS", tmp_path / "groups")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    return tmp_path


def limit(group: Path, names: tuple[str, str], most: str, cache: str = "inactive_file 250000") -> None:
    """A control group that uses 1,000,000 bytes, cache included."""
    group.mkdir(parents=True, exist_ok=True)
    for name, text in ((names[0], most), (names[1], "1000000"), ("memory.stat", f"anon 5\n{cache}")):
        (group / name).write_text(f"{text}\n")


V2, V1 = free_memory.LIMIT_AND_USE


def test_what_is_free_is_shared_and_no_more_than_the_control_group_leaves(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert free_memory.free_bytes(ALONE) == 4000 * 1024
    limit(machine / "groups/job", V2, "3000000")
    assert free_memory.free_bytes(ALONE) == 2_250_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert free_memory.free_bytes(World(1, 4, torch.device("cpu"), None)) == 1_125_000
    limit(machine / "groups/job", V2, "max")
    assert free_memory.free_bytes(ALONE) == 2000 * 1024


def test_a_group_above_may_leave_less(machine: Path) -> None:
    limit(machine / "groups/job", V2, "3000000")
    limit(machine / "groups", V2, "2000000")
    assert free_memory.free_bytes(ALONE) == 1_250_000


def test_version_1_has_a_folder_for_the_memory_controller(machine: Path) -> None:
    (machine / "cgroup").write_text("5:cpu,cpuacct:/other\n4:memory:/job\n")
    limit(machine / "groups/memory/job", V1, "3000000", "total_inactive_file 500000")
    limit(machine / "groups/memory/other", V1, "1000001")
    assert free_memory.free_bytes(ALONE) == 2_500_000


def test_a_system_that_does_not_say_is_no_error(machine: Path) -> None:
    (machine / "meminfo").unlink()
    (machine / "cgroup").unlink()
    assert free_memory.free_bytes(ALONE) is None
