"""Checkpoints: one DCP directory with a manifest per step, published complete or not at all.

Protocol, N images seen: every process writes step-N.tmp; the main one adds manifest.json, syncs, renames to step-N
and replaces the `latest` pointer; only then are old steps deleted, and newer ones, which a resume had to skip, renamed
to step-N.skipped. A kill at any point leaves the last published step as it was.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from common.atomic_writes import publish, sync_folder
from common.errors import DISK_ERRORS, UserError, first_line
from trainer.config import older_versions
from trainer.distributed.world import World

from . import evaluation_holds
from .retention import Keep
from .state import State

FORMAT = 1
MANIFEST = "manifest.json"
STEP, SKIPPED = "step-", ".skipped"
log = logging.getLogger(__name__)


def folder(run: Path) -> Path:
    return run / "checkpoints"


def name_of(images_seen: int) -> str:
    """Steps are named by the clock, so their order is that of training whatever the batch size was."""
    return f"{STEP}{images_seen:012d}"


def clock_of(step: Path) -> int:
    """Images seen of a published step."""
    return int(step.name.removeprefix(STEP))


def full_name(step: str) -> str:
    """The name of a step that a user gave by its name or by images seen."""
    return name_of(int(step)) if step.isdecimal() else step


def pointed(run: Path, pointer: str) -> int | None:
    """The clock of the step that `latest` or `best` names, there or not; None where there is no such pointer."""
    try:
        name = (folder(run) / pointer).read_text().strip()
        return int(name.removeprefix(STEP))
    except (OSError, ValueError):
        return None


def save(run: Path, images_seen: int, state: State, facts: dict[str, Any], world: World, keep: Keep) -> Path:
    """Publish the state as the step at images_seen, then delete what need not be kept.

    facts: what the manifest says besides format, clock and files.

    A step of the same name is replaced. Raises a UserError where the disk is full or read-only; what was published
    stays.
    """
    target = folder(run) / name_of(images_seen)
    temporary = target.with_name(target.name + ".tmp")
    world.on_main(lambda: _prepare(run))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # DCP's remarks on its own defaults
            writer = dcp.FileSystemWriter(temporary)
            dcp.save(state.state_dict(), storage_writer=writer, process_group=world.host_group, no_dist=world.size == 1)
    except (CheckpointException, OSError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _explained(run, error) from None
    manifest = {"format": FORMAT, "images_seen": images_seen} | facts
    world.on_main(lambda: _publish(run, temporary, target, manifest, keep))
    return target


def _prepare(run: Path) -> None:
    try:
        folder(run).mkdir(parents=True, exist_ok=True)
        _sweep(run)
    except OSError as error:
        raise _explained(run, error) from None


def _publish(run: Path, temporary: Path, target: Path, manifest: dict[str, Any], keep: Keep) -> None:
    try:
        files = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        publish(temporary / MANIFEST, (json.dumps(manifest | {"files": files}, indent=1) + "\n").encode())
        sync_folder(temporary)
        if target.exists():  # one that could not be loaded, so that an earlier step was trained again to here
            _delete(target)
        os.rename(temporary, target)
        sync_folder(folder(run))
        publish(folder(run) / "latest", f"{target.name}\n".encode())
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _explained(run, error) from None
    for path in steps(run):
        if path.name > target.name:  # it could not be loaded, so that training went back behind it
            aside = path.with_name(path.name + SKIPPED)
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(path, aside)
    valid = {clock_of(path): path for path in steps(run) if problem(path) is None}
    for clock in valid.keys() - keep.of(list(valid), pointed(run, "best")):
        if valid[clock].name not in evaluation_holds.waiting(run):
            _delete(valid[clock])


def _delete(path: Path) -> None:
    """Out of the published names first: a kill in the middle of the deletion leaves no half step behind."""
    trash = path.with_name(path.name + ".trash")
    os.rename(path, trash)
    shutil.rmtree(trash, ignore_errors=True)


def _sweep(run: Path) -> None:
    """Remove what earlier kills left behind."""
    for path in folder(run).glob(STEP + "*"):
        if path.suffix in (".tmp", ".trash"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _explained(run: Path, error: BaseException) -> BaseException:
    """A UserError for what a user can mend, else the error behind the error."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, KeyboardInterrupt):
            return cause
        why = DISK_ERRORS.get(getattr(cause, "errno", None) or 0)
        if why:
            last = newest(run)
            kept = f"{last.name} is kept" if last else "none was published before"
            return UserError(f"{folder(run)}: {why}: the checkpoint was not saved ({kept}); make room and resume")
    return error


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
    return sorted(folder(run).glob(STEP + "[0-9]" * 12), reverse=True)


def read_manifest(step: Path) -> dict[str, Any]:
    """What a step says of itself, its settings under today's names."""
    manifest: dict[str, Any] = json.loads((step / MANIFEST).read_bytes())
    return manifest | {"config": older_versions.today(manifest.get("config", {}))}


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


def restore(
    run: Path, state: State, world: World, check: Callable[[dict[str, Any]], None] = lambda manifest: None
) -> dict[str, Any] | None:
    """Load the newest usable step into the state, newest to oldest; its manifest, or None where no step was published.

    check(manifest) may raise before anything is read. Every step that is skipped is named in a warning. Raises a
    UserError where steps exist and none can be used.
    """
    skipped: dict[str, str] = {}
    while True:
        path = world.broadcast(_next(run, skipped) if world.is_main else None)
        if path is None:
            break
        manifest = read_manifest(path)
        check(manifest)
        errors = [error for error in world.all_gather_object(_load(path, state)) if error]
        if not errors:
            return manifest
        _skip(skipped, path, errors[0], world.is_main)
    if world.broadcast(skipped):
        listed = "; ".join(f"{name} {why}" for name, why in world.broadcast(skipped).items())
        raise UserError(
            f"{folder(run)}: no checkpoint can be used ({listed}); restore one from a copy, or choose another run "
            "folder to start again"
        )
    return None


def _next(run: Path, skipped: dict[str, str]) -> Path | None:
    for path in steps(run):
        if path.name in skipped:
            continue
        why = problem(path)
        if why is None:
            return path
        _skip(skipped, path, why)
    return None


def _skip(skipped: dict[str, str], path: Path, why: str, tell: bool = True) -> None:
    skipped[path.name] = why
    if tell:
        log.warning("warning: skipped checkpoint %s: it %s", path.name, why)


def _load(path: Path, state: State) -> str | None:
    """Read a step into the state; why it failed, or None."""
    try:
        state.load_state_dict(load_tensors(path, state.state_dict()))
    except UserError as error:
        return str(error)
    return None


def read_newest(run: Path, like: Callable[[dict[str, Any]], dict[str, Tensor]]) -> tuple[Path, dict[str, Tensor]]:
    """Some tensors of the newest usable step: (step, tensors). like(manifest): names with tensors of their shapes.

    Raises a UserError where there is no usable step.
    """
    skipped: dict[str, str] = {}
    while (path := _next(run, skipped)) is not None:
        wanted = like(read_manifest(path))
        try:
            return path, load_tensors(path, wanted)
        except UserError as error:
            _skip(skipped, path, str(error))
    raise UserError(f"{run}: holds no usable checkpoint; train the run further, or name another run folder")


def read_named(run: Path, name: str, like: Mapping[str, Tensor]) -> tuple[Path, dict[str, Tensor]]:
    """Some tensors of one step, named as its folder, by images seen, or `best`: (step, tensors).

    Raises a UserError, which lists the others, where there is no such step or it cannot be used.
    """
    wanted = full_name(name)
    if name == "best":
        clock = pointed(run, "best")
        if clock is None:
            raise UserError(
                f"{folder(run)}: no checkpoint is the best yet; run `python -m evaluation fid` on some first"
            )
        wanted = name_of(clock)
    there = {path.name: path for path in steps(run)}
    why = problem(there[wanted]) if wanted in there else "is not there"
    if why is None:
        try:
            return there[wanted], load_tensors(there[wanted], like)
        except UserError as error:
            why = str(error)
    usable = ", ".join(sorted(other for other, path in there.items() if problem(path) is None and other != wanted))
    listed = f"choose one of {usable}" if usable else "there is no other; train the run further"
    raise UserError(f"{folder(run)}: checkpoint {wanted} {why}; {listed}")


def load_tensors(step: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read some tensors of a step, with no process group. Raises a UserError where it cannot be read."""
    tensors = {name: torch.empty_like(t) for name, t in like.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.load(tensors, storage_reader=dcp.FileSystemReader(step), no_dist=True)
    except (CheckpointException, Exception) as error:  # DCP's exception is no Exception
        cause = _causes(error)[0]
        if isinstance(cause, KeyboardInterrupt):
            raise cause from None
        raise UserError(f"cannot be read ({first_line(cause)})") from None
    return tensors
