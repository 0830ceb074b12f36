"""How a config is read: YAML, then `key.path=value` overrides, then one error that lists every problem."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from common.errors import joined

from . import older_versions
from .overrides import apply_override
from .rules import contradictions
from .settings import Settings
from .yaml_file import read_yaml

C = TypeVar("C", bound=Settings)
# pydantic puts the chosen alternative into the path of a key
_TAGS = ("adam", "rmsprop", "conv", "resnet", "iterations", "images", "power")


def load_config(kind: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """The config at `path` with its overrides. Raises one UserError that lists every problem with its remedy."""
    values = read_yaml(path)
    if older_versions.in_run_folder(path):
        values = older_versions.today_nested(values)
    problems: list[str] = []
    for override in overrides:
        apply_override(values, override, problems)
    try:
        config = kind.model_validate(values)
        problems += contradictions(config)
    except ValidationError as error:
        problems += [_explain(kind, e) for e in error.errors()]
        wrong = {str(e["loc"][0]) for e in error.errors() if e["loc"]}
        if not wrong & kind.linked:  # what else is wrong does not touch them
            problems += contradictions(_linked_part(kind, values))
    if problems:
        raise joined(str(path), problems)
    return config


def _linked_part(kind: type[C], values: dict[str, Any]) -> C:
    """What `contradictions` reads of a config that is wrong elsewhere."""
    parsed: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if name in kind.linked and name in values:
            adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
            parsed[name] = adapter.validate_python(values[name])
    return cast(C, kind.model_construct(None, **parsed))


def _explain(kind: type[Settings], error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"] if part not in _TAGS) or "settings"
    value = json.dumps(error["input"], default=str)
    if error["type"] == "extra_forbidden":
        renamed = older_versions.new_name(key)
        return f"{key}: unknown key (value {value}); " + (f"it is now {renamed}" if renamed else _nearest(kind, key))
    if error["type"] == "missing":
        return f"{key}: is missing; set it in the file or as {key}=..."
    if error["type"] == "union_tag_not_found":
        names = re.findall(r"'(\w+)'", str((error.get("ctx") or {}).get("discriminator", ""))) or ["name"]
        return f"{key}: found {value}, which does not say its {names[0]}; set {key}.{names[0]} too (see configs/)"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: found {value}: {message[0].lower()}{message[1:]}" if error["loc"] else message


def _nearest(kind: type[Settings], key: str) -> str:
    keys = list(_keys(kind))
    close = difflib.get_close_matches(key, keys, 1, 0.5)
    close = close or [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    return f"did you mean {close[0]}?" if close else f"known keys: {', '.join(kind.model_fields)}"


def _keys(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in kind.model_fields.items():
        yield prefix + name
        for nested in (field.annotation, *get_args(field.annotation)):
            if isinstance(nested, type) and issubclass(nested, BaseModel):
                yield from _keys(nested, f"{prefix}{name}.")
