"""Translate settings that older versions wrote into run folders to today's.

A setting that was renamed is translated where it is read from a run folder. In users' own files and overrides the old
name is refused, and the new one is named. A run from before a setting existed has no value of it: ADDED has the value
that means what the trainer did then. A new setting that a resume may not change needs an entry there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Renamed(NamedTuple):
    """A key that was renamed. group: a regular expression of the groups that have it."""

    group: str
    old: str
    new: str


RENAMED = (  # in 0.2.0
    Renamed("growth", "stage_kimg", "phase_kimg"),
    Renamed("growth", "stage_kimg_at", "phase_kimg_at"),
    Renamed(r"optimizer\w*", "lr_course", "lr_schedule"),
    Renamed("beta", "course", "schedule"),
)
ADDED: dict[str, Any] = {}  # key.path: the value that it has in runs from before it existed


def new_name(key: str) -> str | None:
    """Return today's name of key.path, or None where it was not renamed. Keys below a renamed one are renamed too."""
    for renamed in RENAMED:
        name = _replaced(key, renamed.group, renamed.old, renamed.new)
        if name:
            return name
    return None


def _old_name(key: str) -> str | None:
    """Return the first version's name of key.path, or None where it was not renamed."""
    for renamed in RENAMED:
        name = _replaced(key, renamed.group, renamed.new, renamed.old)
        if name:
            return name
    return None


def today(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a run's flat settings, which its manifest has, to today's."""
    renamed = {new_name(key) or key: value for key, value in flat.items()}
    return renamed | {key: value for key, value in ADDED.items() if _is_missing(key, renamed)}


def as_first_written(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Translate flat settings to what the first version would have written, so that hashes of them stay the same."""
    out = {}
    for key, value in flat.items():
        if key not in ADDED or value != ADDED[key]:
            out[_old_name(key) or key] = value
    return out


def in_run_folder(config: Path) -> bool:
    """Return whether a file is the config.yaml that a run wrote beside its checkpoints or its exit.json."""
    folder = config.parent
    return config.name == "config.yaml" and ((folder / "checkpoints").is_dir() or (folder / "exit.json").is_file())


def today_nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a run's nested settings, which its config.yaml has, to today's."""
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
    """Return whether a flat config has the key's group but not the key. A group that is null has no keys."""
    group = key.rpartition(".")[0]
    return key not in flat and (not group or any(other.startswith(f"{group}.") for other in flat))


def _renamed_group(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    renamed = {}
    for key, setting in value.items():
        path = f"{name}.{key}"
        renamed[(new_name(path) or path).removeprefix(f"{name}.")] = setting
    return renamed
