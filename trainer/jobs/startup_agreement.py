"""What all processes of a run must agree on before they start, and what a requeued job must find as it was."""

from __future__ import annotations

import functools
import hashlib
import json
import socket
import time
from pathlib import Path
from typing import Any

from common.atomic_writes import publish
from common.errors import UserError, listed
from common.provenance import versions
from trainer.config import older_versions
from trainer.config.changes import changes
from trainer.config.schema import RunConfig
from trainer.config.settings import fixed, flat
from trainer.distributed.world import World

from .run_lock import read_token

PACKAGES = ("common", "data_shards", "models", "trainer")
FILE = "started.json"
PATIENCE = 60.0  # seconds: a network file system may show a new file late


@functools.cache
def code_sha256() -> str:
    """Return the SHA-256 over path and content of every Python file that training runs."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted(path for name in PACKAGES for path in (root / name).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def description(config: RunConfig, inputs: dict[str, str | int]) -> dict[str, Any]:
    """Describe what a process would train: hash of the code, versions, settings, and hashes of data and encoder.

    Paths of data, cache and encoder are left out, for they may differ from node to node. Keys are those that messages
    show.
    """
    of_nodes = ("data.path", "data.cache", "data.cache.path", "data.cache.gigabytes", "data.painting", "vae")
    values = {key: value for key, value in flat(config).items() if key not in of_nodes}
    named = {f"hash of {key}": value for key, value in inputs.items()}  # "data" would read as the group of data.path
    return {"code": code_sha256()[:12], **versions(), **named, **values}


def smallest(mine: dict[int, int], world: World) -> dict[int, int]:
    """Return the smallest number of each key over the processes, whose free memory may differ."""
    every = world.all_gather_object(mine)
    return {key: min(each[key] for each in every if key in each) for key in sorted(set().union(*every))}


def agree(mine: dict[str, Any], world: World) -> None:
    """Raise a UserError on every process where a description differs from the main process's. It names the hosts."""
    descriptions = world.all_gather_object((socket.gethostname(), world.rank, mine))
    _, _, wanted = descriptions[0]
    problems = []
    for host, rank, description in descriptions[1:]:
        different = changes(wanted, description)
        if different:
            values = "; ".join(
                f"{change.key}: {json.dumps(change.old)} on process 0, here {json.dumps(change.new)}"
                for change in different
            )
            problems.append(f"process {rank} on {host}: {values}")
    if problems:
        raise listed("processes would not train the same thing; give all the same code, config and data:", problems)


def one_folder(lock: Path, world: World) -> None:
    """Raise a UserError on every process where one does not see the lock that the main process holds.

    Its RUN is then another folder, and its part of every checkpoint would be missing.
    """
    wanted = world.broadcast(read_token(lock) if world.is_main else None)

    def wait_for_lock() -> None:
        deadline = time.monotonic() + PATIENCE
        while read_token(lock) != wanted:
            if time.monotonic() > deadline:
                raise UserError(
                    f"run: {lock.parent} on {socket.gethostname()} is not the folder of process 0; name one on a file "
                    "system that all nodes share"
                )
            time.sleep(0.2)

    world.on_all(wait_for_lock)


def pin(run: Path, config: RunConfig, accept_changes: bool) -> None:
    """Record in RUN/started.json the code and settings of the first start. Raise a UserError where they differ later.

    accept_changes: record today's instead.
    """
    if not accept_changes:
        refuse_another_start(run, config)
    publish(run / FILE, (json.dumps(_pinned(config), indent=1) + "\n").encode())


def refuse_another_start(run: Path, config: RunConfig) -> None:
    """Raise a UserError where RUN/started.json, if there is one, has other code or settings than those of today."""
    path = run / FILE
    if not path.is_file():
        return
    changed = changes(older_versions.today(json.loads(path.read_bytes())), _pinned(config))
    if changed:
        remedy = "set these back, or resume all the same with --accept-changes"
        raise listed(f"{run} was started with other code or settings:", [*map(str, changed), remedy])


def _pinned(config: RunConfig) -> dict[str, Any]:
    """Return what every start of a pinned run must have alike."""
    return {"code": code_sha256()[:12], **versions(), **fixed(config)}
