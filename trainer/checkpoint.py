"""Checkpoints: one DCP directory with a manifest per step, published complete or not at all.

Protocol: every process writes step-N.tmp; the main one adds manifest.json, syncs, renames to step-N and replaces the
`latest` pointer; only then are old steps deleted. A kill at any point leaves the last published step as it was.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from data_shards.errors import UserError
from data_shards.publish import publish, sync_folder

from .state import State
from .world import World

FORMAT = 1
MANIFEST = "manifest.json"
_DISK = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "the disk is read-only",
}
log = logging.getLogger(__name__)


def folder(run: Path) -> Path:
    return run / "checkpoints"


def _path(run: Path, step: int) -> Path:
    return folder(run) / f"step-{step:09d}"


def save(run: Path, step: int, state: State, facts: dict[str, Any], world: World, keep_last: int) -> Path:
    """Publish the state as step-N. facts: what the manifest says besides format, step and files.

    Raises a UserError where the disk is full or read-only; what was published stays.
    """
    target = _path(run, step)
    temporary = target.with_name(target.name + ".tmp")
    if world.is_main:
        folder(run).mkdir(parents=True, exist_ok=True)
        _sweep(run)
    done = world.from_main(problem(target) is None if world.is_main else None)
    if done:
        return target
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # DCP's remarks on its own defaults
            dcp.save(
                state.tensors(),
                storage_writer=dcp.FileSystemWriter(temporary),
                process_group=world.host_group,
                no_dist=world.size == 1,
            )
        world.barrier()
        if world.is_main:
            _publish(run, temporary, target, {"format": FORMAT, "step": step} | facts, keep_last)
    except (CheckpointException, OSError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _disk_error(run, error) or error from None
    world.barrier()
    return target


def _publish(run: Path, temporary: Path, target: Path, manifest: dict[str, Any], keep_last: int) -> None:
    files = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
    publish(temporary / MANIFEST, (json.dumps(manifest | {"files": files}, indent=1) + "\n").encode())
    sync_folder(temporary)
    if target.exists():  # an invalid step of the same number, which a fall-back came past
        _delete(target)
    os.rename(temporary, target)
    sync_folder(folder(run))
    publish(folder(run) / "latest", f"{target.name}\n".encode())
    for old in [path for path in steps(run) if problem(path) is None][keep_last:]:
        _delete(old)


def _delete(path: Path) -> None:
    """Out of the published names first: a kill in the middle of the deletion leaves no half step behind."""
    trash = path.with_name(path.name + ".trash")
    os.rename(path, trash)
    shutil.rmtree(trash, ignore_errors=True)


def _sweep(run: Path) -> None:
    """Remove what earlier kills left behind."""
    for path in folder(run).iterdir():
        if path.suffix in (".tmp", ".trash"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _disk_error(run: Path, error: BaseException) -> UserError | None:
    for cause in _causes(error):
        why = _DISK.get(getattr(cause, "errno", None) or 0)
        if why:
            last = newest(run)
            kept = f"{last.name} is kept" if last else "none was published before"
            return UserError(f"{folder(run)}: {why}, the checkpoint was not saved ({kept}); make room and resume")
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """The errors behind an error: DCP wraps them, and torch's zip writer raises its own on top of the system's."""
    starts = [failure[0] for failure in error.failures.values()] if isinstance(error, CheckpointException) else [error]
    found: list[BaseException] = []
    while starts:
        cause = starts.pop()
        if cause not in found:
            found.append(cause)
            starts += [c for c in (cause.__cause__, cause.__context__) if c is not None]
    return found


def steps(run: Path) -> list[Path]:
    """Published steps, newest first, valid or not."""
    return sorted(folder(run).glob("step-" + "[0-9]" * 9), reverse=True)


def read_manifest(step: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((step / MANIFEST).read_bytes())
    return manifest


def problem(step: Path) -> str | None:
    """Why a step cannot be used, or None where it is whole."""
    if not step.is_dir():
        return "is missing"
    try:
        manifest = read_manifest(step)
        if manifest["format"] != FORMAT:
            return f"has format {manifest['format']}, this program reads {FORMAT}"
        sizes = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"has no readable {MANIFEST} ({error})"
    for name, size in sizes.items():
        path = step / name
        if not path.is_file():
            return f"lacks {name}"
        if path.stat().st_size != size:
            return f"has {name} with {path.stat().st_size} bytes instead of {size}"
    return None


def newest(run: Path) -> Path | None:
    """The newest valid step."""
    return next((path for path in steps(run) if problem(path) is None), None)


def restore(run: Path, state: State, world: World) -> dict[str, Any] | None:
    """Load the newest usable step into the state, newest to oldest; its manifest, or None where no step was published.

    Every step that is skipped is named in a warning. Raises a UserError where steps exist and none can be used.
    """
    if world.from_main(not steps(run) if world.is_main else None):
        return None
    skipped: list[str] = []
    while True:
        path = world.from_main(_next(run, skipped) if world.is_main else None)
        if path is None:
            raise UserError(
                f"{folder(run)}: no checkpoint can be used ({'; '.join(skipped)}); restore one from a copy, or choose "
                "another run folder to start again"
            )
        error = _load(path, state)
        if not world.any(error is not None):
            return read_manifest(path)
        skipped.append(f"{path.name} {error or 'cannot be read by another process'}")
        log.warning("warning: skipped checkpoint %s", skipped[-1])


def _next(run: Path, skipped: list[str]) -> Path | None:
    known = {line.split()[0] for line in skipped}
    for path in steps(run):
        if path.name in known:
            continue
        why = problem(path)
        if why is None:
            return path
        skipped.append(f"{path.name} {why}")
        log.warning("warning: skipped checkpoint %s", skipped[-1])
    return None


def _load(path: Path, state: State) -> str | None:
    """Read a step into the state; why it failed, or None. DCP's exception is no Exception."""
    tensors = {name: torch.empty_like(t) for name, t in state.tensors().items()}
    try:
        load_tensors(path, tensors)
    except (CheckpointException, Exception) as error:
        return f"cannot be read ({_first_line(error)})"
    with torch.no_grad():
        for name, target in state.tensors().items():
            target.copy_(tensors[name])
    return None


def _first_line(error: BaseException) -> str:
    cause = _causes(error)[0]
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def load_tensors(step: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Read some tensors of a step, by name, into the given ones; no process group takes part."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(tensors, storage_reader=dcp.FileSystemReader(step), no_dist=True)
