"""Read a config: its YAML file, then `key.path=value` overrides, then one error that lists every problem."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from common.errors import joined

from . import older_versions
from .older_versions import FORMS
from .overrides import apply_override
from .rules import contradictions
from .settings import Settings
from .yaml_file import read_yaml

C = TypeVar("C", bound=Settings)
# pydantic inserts the tag of a union's chosen member into the path of a key; users do not write it.
_TAGS = ("adam", "rmsprop", "conv", "resnet", "iterations", "images", "power", "diffaugment", "ada")


def load_config(kind: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """Return the config at `path` with its overrides. Raises one UserError that lists every problem with its remedy."""
    values = read_yaml(path, kind)
    if older_versions.in_run_folder(path):
        values = older_versions.today_nested(values, path)
    problems: list[str] = []
    for override in overrides:
        apply_override(values, override, problems, (kind,))
    try:
        config = kind.model_validate(values)
        problems += contradictions(config)
    except ValidationError as error:
        problems += _schema_problems(kind, values, error)
    if problems:
        raise joined(str(path), problems)
    return config


def _schema_problems(kind: type[C], values: dict[str, Any], error: ValidationError) -> list[str]:
    """Explain each wrong key; list contradictions too, if the keys that they read are right."""
    errors = error.errors()
    problems = [_explain(kind, details) for details in errors]
    wrong = {str(details["loc"][0]) for details in errors if details["loc"]}
    if not wrong & kind.linked:
        problems += contradictions(_linked_part(kind, values))
    return problems


def _linked_part(kind: type[C], values: dict[str, Any]) -> C:
    """Build the part of a config that `contradictions` reads, where other keys are wrong."""
    parsed: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if name in kind.linked and name in values:
            adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
            parsed[name] = adapter.validate_python(values[name])
    return cast(C, kind.model_construct(None, **parsed))


def _explain(kind: type[Settings], error: ErrorDetails) -> str:
    """Say which key has which wrong value, and what to set instead."""
    key = ".".join(str(part) for part in error["loc"] if part not in _TAGS) or "settings"
    value = json.dumps(error["input"], default=str)
    if error["type"] == "extra_forbidden":
        tag = next((part for part in error["loc"] if part in _TAGS), None)
        if tag and key in _keys(kind):
            section = _of_tag(kind, key, tag)
            return f"{key}: found {value}, but {tag} has no such setting; remove it, or replace the section: {section}"
        renamed = older_versions.new_name(key)
        now = f"it is now {renamed}" if renamed not in FORMS else f"it is now {renamed}={FORMS[renamed]}"
        return f"{key}: unknown key (value {value}); {now if renamed else _nearest(kind, key)}"
    if error["type"] == "missing":
        return f"{key}: is missing; set it in the file or as {key}=..."
    if error["type"] == "union_tag_not_found":
        says = error["ctx"]["discriminator"].strip("'")  # network, optimizer: name; augment: kind
        return f"{key}: found {value}, which does not say its {says}; set {key}.{says} too"
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"{key}: found {value}, but it is a section: set its keys, {', '.join(_of_section(kind, key))}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: found {value}: {message[0].lower()}{message[1:]}" if error["loc"] else message


def _of_section(kind: type[Settings], key: str) -> list[str]:
    """Name the settings of a section."""
    return [name for name in dict.fromkeys(_keys(kind)) if name.rpartition(".")[0] == key]


def _of_tag(kind: type[Settings], key: str, tag: Any) -> str:
    """Return the override that sets a section to one of its kinds with defaults, as network={name: conv}."""
    section = key.rpartition(".")[0]
    says = next(name for name in ("name", "kind") if f"{section}.{name}" in _of_section(kind, section))
    return f"{section}={{{says}: {tag}}}"


def _nearest(kind: type[Settings], key: str) -> str:
    """Name the known key that an unknown one may stand for."""
    keys = list(_keys(kind))
    close = difflib.get_close_matches(key, keys, 1, 0.5)
    close = close or [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    return f"did you mean {close[0]}?" if close else f"known keys: {', '.join(kind.model_fields)}"


def _keys(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every key of a config as key.path."""
    for name, field in kind.model_fields.items():
        yield prefix + name
        for nested in _sections(field.annotation):
            yield from _keys(nested, f"{prefix}{name}.")


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a setting may be: its own type, or the members of a union. Elements of lists are none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    if get_origin(annotation) is not tuple:
        for part in get_args(annotation):
            yield from _sections(part)
