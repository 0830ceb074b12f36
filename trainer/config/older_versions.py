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

from common.errors import UserError

from .file_names import METADATA
from .schema import GanConfig, VaeConfig, kind_of
from .settings import Settings


class Renamed(NamedTuple):
    """A key that was renamed. group: a regular expression of the groups that have it."""

    group: str
    old: str
    new: str


RENAMED = (  # in 0.2.0, data.local after it
    Renamed("growth", "stage_kimg", "phase_kimg"),
    Renamed("growth", "stage_kimg_at", "phase_kimg_at"),
    Renamed(r"optimizer\w*", "lr_course", "lr_schedule"),
    Renamed("beta", "course", "schedule"),
    Renamed("data", "local", "cache"),  # null in every run folder
)
FORMS = {"data.cache": "{path: FOLDER, gigabytes: NUMBER}"}  # of renamed settings that are written in another way
# By the stage of the config, key.path: the value that it has in runs from before it existed.
ADDED: dict[type[Settings], dict[str, Any]] = {
    VaeConfig: {"autocast": "none"},
    GanConfig: {
        "objective": "logistic",
        "r2": 0.0,
        "init_from": None,
        "freeze_d": 0,
        "augment": None,
        "labels": None,
        "growth.warm_start": False,
        "network.nf_min": 1,
    },
}
OF_KIND = {"network.nf_min": "resnet"}  # an added setting that a group has where its `name` is this


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
    added = {key: value for key, value in ADDED[kind_of(flat)].items() if not _is_settled(key, renamed)}
    return renamed | added


def as_first_written(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Translate flat settings to what the first version would have written, so that hashes of them stay the same."""
    added, out = ADDED[kind_of(flat)], {}
    for key, value in flat.items():
        if key not in added or value != added[key]:
            out[_old_name(key) or key] = value
    return out


def in_run_folder(config: Path) -> bool:
    """Return whether a file is the config.yaml of a run that has trained: beside checkpoints, ticks or an export."""
    folder = config.parent
    has_trained = (folder / "checkpoints").is_dir() or any(
        (folder / name).is_file() for name in ("stats.jsonl", METADATA)
    )
    return config.name == "config.yaml" and has_trained


def today_nested(values: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Translate a run's nested settings, which its config.yaml has, to today's.

    source: that file. Raises UserError where it has a setting under both of its names.
    """
    out = {name: _renamed_group(name, value, source) for name, value in values.items()}
    for key, value in ADDED[kind_of(values)].items():
        _add(out, key, value)
    return out


def _replaced(key: str, group: str, old: str, new: str) -> str | None:
    match = re.fullmatch(rf"({group})\.{old}(\..+)?", key)
    return f"{match[1]}.{new}{match[2] or ''}" if match else None


def _is_settled(key: str, flat: Mapping[str, Any]) -> bool:
    """Return whether flat settings have a key, or a group that cannot: it is null, or of another kind."""
    parts = key.split(".")
    if flat.get(f"{parts[0]}.name") != OF_KIND.get(key, flat.get(f"{parts[0]}.name")):
        return True
    return any(".".join(parts[:length]) in flat for length in range(1, len(parts) + 1))


def _add(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a key of nested settings, unless it is there or one of its groups is null or of another kind."""
    *groups, last = key.split(".")
    if key in OF_KIND and (values.get(groups[0]) or {}).get("name") != OF_KIND[key]:
        return
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            return
    values.setdefault(last, value)


def _renamed_group(name: str, value: Any, source: Path) -> Any:
    """Return a group with the names of today; what is no group is returned as it is."""
    if not isinstance(value, dict):
        return value
    renamed = {}
    for key, setting in value.items():
        new = new_name(f"{name}.{key}")
        if new is not None and new.removeprefix(f"{name}.") in value:
            raise UserError(f"{source}: {name}.{key}: an older name of {new}, which is there too; remove one of them")
        renamed[key if new is None else new.removeprefix(f"{name}.")] = setting
    return renamed
