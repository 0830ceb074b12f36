"""How much memory is free for this process: on its GPU, or of the machine's RAM and its control group (cgroup)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from trainer.distributed.world import World

CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
LIMIT_AND_USE = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))  # cgroup v2, v1


def free_bytes(world: World) -> int | None:
    """Return the bytes that are free for this process on its device, or None where the system does not say.

    On a GPU: its free memory, and what torch's allocator has cached. On a CPU: the least that the machine and its
    control groups leave, shared evenly by this machine's processes.
    """
    if world.device.type == "cuda":
        cached = torch.cuda.memory_reserved(world.device) - torch.cuda.memory_allocated(world.device)
        return torch.cuda.mem_get_info(world.device)[0] + cached
    limits = [_available(), *(_left_in_group(folder) for folder in _group_folders())]
    known = [limit for limit in limits if limit is not None]
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    return min(known) // processes if known else None


def _available() -> int | None:
    """Return MemAvailable, the bytes that the machine can give without swapping (Linux)."""
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _group_folders() -> list[Path]:
    """Return the folders of this process's memory control groups and of the groups above them.

    /proc/self/cgroup has lines ID:CONTROLLERS:PATH, v2's with no controllers. v1 mounts the memory controller at
    CGROUPS/memory. Within a container a folder may not be there under its PATH; the ones above it may.
    """
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return []
    folders: dict[Path, None] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        for mount in (CGROUPS, CGROUPS / "memory"):
            folders |= dict.fromkeys(_up_to_mount(mount / path.lstrip("/")))
    return list(folders)


def _up_to_mount(folder: Path) -> Iterator[Path]:
    """Yield a folder and the folders above it, up to CGROUPS."""
    for group in (folder, *folder.parents):
        if group.is_relative_to(CGROUPS):
            yield group


def _left_in_group(folder: Path) -> int | None:
    """Return a control group's limit less its use, or None where it has no limit.

    Page cache that the kernel can drop does not count as used.
    """
    for limit, used in LIMIT_AND_USE:
        try:
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
            return int((folder / limit).read_text()) - int((folder / used).read_text()) + cache
        except (OSError, ValueError):  # there is no such file, or the limit is "max"
            continue
    return None
