"""How a config is read: YAML, then `key.path=value` overrides, then one error that lists every problem."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from common.errors import UserError, joined


class Settings(BaseModel):
    """A group of settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    linked: ClassVar[frozenset[str]] = frozenset()  # the keys that `contradictions` reads

    def contradictions(self) -> list[str]:
        """Settings that are right one by one and cannot be meant together: a line each, with the remedy."""
        return []


C = TypeVar("C", bound=Settings)
# pydantic puts the chosen alternative into the path of a key
_TAGS = ("adam", "rmsprop", "conv", "resnet", "iterations", "images", "power")


def may_change(default: Any, **kwargs: Any) -> Any:
    """A field that stands outside the config's hash: a resume may change it."""
    return Field(default, json_schema_extra={"may_change": True}, **kwargs)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats (PyYAML reads 1e-4 as a string) and no duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def read(path: Path) -> dict[str, Any]:
    """The values of a YAML file, as they stand there. Raises UserError where it is no mapping."""
    try:
        values = yaml.load(path.read_text(), _Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such config; configs/ holds those that are shipped") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}; mend that line") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {type(values).__name__}; see configs/")
    return values


def load(kind: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """The config at `path` with its overrides. Raises one UserError that lists every problem with its remedy."""
    values = read(path)
    problems: list[str] = []
    for override in overrides:
        _override(values, override, problems)
    try:
        config = kind.model_validate(values)
        problems += config.contradictions()
    except ValidationError as error:
        problems += [_explain(kind, e) for e in error.errors()]
        wrong = {str(e["loc"][0]) for e in error.errors() if e["loc"]}
        if not wrong & kind.linked:  # what else is wrong does not touch them
            problems += _linked_part(kind, values).contradictions()
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


def _override(values: dict[str, Any], override: str, problems: list[str]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        problems.append(f"{override!r}: an override reads key.path=value, for example batch_size=32")
        return
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(values.get(parent), dict):
            values[parent] = {}
        values = values[parent]
    try:
        values[last] = yaml.load(text, _Loader)
    except yaml.YAMLError:
        problems.append(f"{key}: {text!r} is not a YAML value; quote it")


def _explain(kind: type[Settings], error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"] if part not in _TAGS) or "settings"
    value = json.dumps(error["input"], default=str)
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key (value {value}); {_nearest(kind, key)}"
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


def fixed(config: BaseModel) -> dict[str, Any]:
    """The settings that a resume may not change, as flat {key.path: JSON value}."""
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
    """All settings as flat {key.path: JSON value}."""
    return _flat(config.model_dump(mode="json"))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return out


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two flat settings, a line each."""
    every = old.keys() | new.keys()
    keys = sorted(key for key in every if not any(other.startswith(f"{key}.") for other in every))  # no bare groups
    missing = object()
    return [
        f"{key}: was {json.dumps(old.get(key))}, now {json.dumps(new.get(key))}"
        for key in keys
        if old.get(key, missing) != new.get(key, missing)
    ]


def to_yaml(config: BaseModel) -> str:
    """The resolved config as YAML, for the run folder."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
