"""The folder that `make` writes into: is it free, does it hold this set already, does another `make` use it?"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.atomic_writes import publish
from common.errors import UserError
from data_shards.format import index, manifest
from data_shards.format.litter import litter
from data_shards.format.manifest import UNFINISHED
from data_shards.sources.base import Source


def already_complete(out: Path, recipe: dict[str, Any], source: Source) -> bool:
    """Return whether DIR holds exactly this set. Raises UserError where it holds another, or this one with damage."""
    if not (out / manifest.FILE).exists():
        return False
    stored = manifest.load(out)
    found = {"files": stored.source_sha256, "count": stored.count + len(stored.skipped)}
    _refuse_other_recipe(out, stored.recipe | found, recipe | _content(source))
    for resolution in stored.resolutions:
        index.load(out, stored.level(resolution))
        index.check_shards(out, stored.level(resolution))
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)  # left by a run that died right after its manifest
    return True


@contextlib.contextmanager
def claimed(out: Path, recipe: dict[str, Any], source: Source) -> Iterator[None]:
    """Hold DIR for one `make`: a new folder, or what an earlier run with the same recipe left unfinished.

    A second run at the same time is refused, because both would write into the same files. The system releases the lock
    when its process ends. Raises UserError where the folder is in use, not empty, or begun with another recipe.
    """
    stored_recipe = out / UNFINISHED / "recipe.json"
    if not stored_recipe.exists() and out.exists() and _holds_something(out):
        raise UserError(f"--out is {out}: it is not empty and holds no unfinished set; choose another folder")
    stored_recipe.parent.mkdir(parents=True, exist_ok=True)
    with open(stored_recipe.parent / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--out is {out}: another `make` writes there; let it end, or choose another folder"
            ) from None
        _begin_or_continue(out, stored_recipe, recipe | _content(source))
        yield


def _holds_something(out: Path) -> bool:
    """Return whether a folder holds more than litter, which a new disk (lost+found) or a file manager leaves there."""
    return any(litter(path.name) is None for path in out.iterdir())


def _begin_or_continue(out: Path, stored_recipe: Path, wanted: dict[str, Any]) -> None:
    """Write the recipe of a new set, or check that of an unfinished one and remove its half-written files."""
    if not stored_recipe.exists():
        publish(stored_recipe, json.dumps(wanted).encode())
        return
    _refuse_other_recipe(out, json.loads(stored_recipe.read_text()), wanted)
    for stale in out.rglob("*.tmp"):
        stale.unlink()


def _content(source: Source) -> dict[str, Any]:
    return {"files": source.listing_sha256, "count": len(source.names)}


def _refuse_other_recipe(out: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    old = {"count": new["count"]} | old  # an older version left no count in an unfinished set
    changed = {key for key in old | new if old.get(key) != new.get(key)}
    if "count" in changed:
        changed.discard("files")  # a hash that says the same in fewer words
    if changed:
        told = "; ".join(f"{key}: {old.get(key)} there, {new.get(key)} now" for key in sorted(changed))
        raise UserError(
            f"--out is {out}: it holds a set made with another recipe ({told}); "
            "give the same options, choose another folder, or delete it"
        )
