"""Settings that older versions wrote into run folders, as today's.

A setting that was renamed is translated where it is read from a run folder; users' own files and overrides with the old
name are refused with the new one. A setting that was added later means, in a run from before, what the trainer did
before that setting existed: whoever adds one that a resume may not change says so in ADDED.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Renamed(NamedTuple):
    """A key of every group whose name matches."""

    group: str
    old: str
    new: str


RENAMED = (  # in 0.2.0
    Renamed("growth", "stage_kimg", "phase_kimg"),
    Renamed("growth", "stage_kimg_at", "phase_kimg_at"),
    Renamed(r"optimizer\w*", "lr_course", "lr_schedule"),
    Renamed("beta", "course", "schedule"),
)
ADDED: dict[str, Any] = {}  # key.path: what runs that do not have it mean by it


def new_name(key: str) -> str | None:
    """Today's name of key.path, or None where it was not renamed. What stands below it is renamed with it."""
    return next((found for r in RENAMED if (found := _replaced(key, r.group, r.old, r.new))), None)


def today(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The flat settings of a run, as its manifest has them, as today's."""
    renamed = {new_name(key) or key: value for key, value in flat.items()}
    return renamed | {key: value for key, value in ADDED.items() if _is_missing(key, renamed)}


def as_first_written(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings as the first version would have written them, so that what is derived from them stays the same."""
    out = {}
    for key, value in flat.items():
        if key not in ADDED or value != ADDED[key]:
            old = next((found for r in RENAMED if (found := _replaced(key, r.group, r.new, r.old))), None)
            out[old or key] = value
    return out


def in_run_folder(config: Path) -> bool:
    """Whether a file is the config.yaml that a run wrote beside its checkpoints or its exit.json."""
    folder = config.parent
    return config.name == "config.yaml" and ((folder / "checkpoints").is_dir() or (folder / "exit.json").is_file())


def today_nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The nested settings of a run, as its config.yaml has them, as today's."""
    out = {name: _renamed_group(name, value) for name, value in values.items()}
    for key, value in ADDED.items():
        *parents, last = key.split(".")
        group: Any = out
        for parent in parents:
            group = group.get(parent) if isinstance(group, dict) else None
        if isinstance(group, dict):
            group.setdefault(last, value)
    return out


def _replaced(key: str, group: str, old: str, new: str) -> str | None:
    match = re.fullmatch(rf"({group})\.{old}(\..+)?", key)
    return f"{match[1]}.{new}{match[2] or ''}" if match else None


def _is_missing(key: str, flat: Mapping[str, Any]) -> bool:
    """Whether a flat config has the key's group and not the key. A group that is null has no keys."""
    group = key.rpartition(".")[0]
    return key not in flat and (not group or any(other.startswith(f"{group}.") for other in flat))


def _renamed_group(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {(new_name(f"{name}.{key}") or f"{name}.{key}").removeprefix(f"{name}."): v for key, v in value.items()}
