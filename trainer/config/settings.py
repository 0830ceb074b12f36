"""The base class of all groups of settings, and their forms: flat keys and YAML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from common import paths, shipped


class Settings(BaseModel):
    """A group of settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    linked: ClassVar[frozenset[str]] = frozenset()  # the keys that rules.contradictions reads


def _path(value: Any) -> Any:
    """Expand a typed path. What is no text is refused by its type."""
    return paths.typed(value) if isinstance(value, str) else value


def _location(value: Any) -> Any:
    """Expand a typed path, or read a URL. What is no text is refused by its type."""
    return paths.typed_location(value) if isinstance(value, str) else value


PathSetting = Annotated[Path, BeforeValidator(_path)]
"""A path as a user types it; see `common.paths.typed`."""
LocationSetting = Annotated[paths.Location, BeforeValidator(_location)]
"""A path as a user types it, or a URL; see `common.paths.typed_location`."""
S = TypeVar("S", bound=BaseModel)


def may_change(default: Any, **kwargs: Any) -> Any:
    """Declare a field that a resume may change: it is not part of `fixed`."""
    return Field(default, json_schema_extra={"may_change": True}, **kwargs)


def fixed(config: BaseModel) -> dict[str, Any]:
    """Return the settings that a resume may not change, as flat {key.path: JSON value}."""
    out: dict[str, Any] = {}
    values = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("may_change"):
            continue
        if isinstance(value, BaseModel):
            out |= {f"{name}.{key}": v for key, v in fixed(value).items()}
        else:
            out[name] = values[name]
    return out


def flat(config: BaseModel) -> dict[str, Any]:
    """Return all settings as flat {key.path: JSON value}."""
    return _flat(config.model_dump(mode="json"))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return out


def with_absolute_paths(config: S) -> S:
    """Return a config whose paths mean the same in every folder. What came with the program keeps its name."""
    return _with_paths(config, lambda path: path.absolute() if shipped.found(path) == path else path)


def with_relative_paths(config: S, folder: Path) -> S:
    """Return a config in which paths below a folder are relative to it, to be used where a copy of it stands."""
    return _with_paths(config, lambda path: path.relative_to(folder) if path.is_relative_to(folder) else path)


def _with_paths(config: S, change: Callable[[Path], Path]) -> S:
    """Return a config with every path changed."""
    updates: dict[str, Any] = {}
    for name, value in config:
        if isinstance(value, Path):
            updates[name] = change(value)
        elif isinstance(value, BaseModel):
            updates[name] = _with_paths(value, change)
    return config.model_copy(update=updates)


def to_yaml(config: BaseModel) -> str:
    """Format a config with all its defaults as YAML, for the run folder."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
