"""What was typed, where a setting wants text and YAML reads a number, a date or a boolean: 001, 20240501, 1e3, no.

The type of a setting decides. `Kinds` are the alternatives of a type, without Annotated and without groups of types.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import yaml
from pydantic import BaseModel

from common.paths import Url

Kinds = Sequence[Any]


def as_typed(value: Any, node: yaml.Node, kinds: Kinds) -> Any:
    """Return the value of a YAML node, with text and paths in it as they were typed, without quotes.

    A word for true or false is text too, where no boolean is wanted: 1.0 for `r1: on` is nobody's intention.
    """
    kinds = alternatives(kinds)
    if not kinds:
        return value
    if isinstance(node, yaml.ScalarNode):
        is_word = value is not None and (wants_text(kinds) or (isinstance(value, bool) and bool not in kinds))
        return node.value if is_word else value
    if isinstance(node, yaml.SequenceNode) and isinstance(value, list):
        pairs = enumerate(zip(value, node.value, strict=True))
        return [as_typed(item, inner, _items(kinds, place)) for place, (item, inner) in pairs]
    if isinstance(node, yaml.MappingNode) and isinstance(value, dict):
        return _mapping(value, node, kinds)
    return value


def alternatives(kinds: Kinds) -> list[Any]:
    """Return the types that a value may have: int | None gives [int, NoneType]."""
    found: list[Any] = []
    for kind in kinds:
        origin, arguments = _origin(kind), typing.get_args(kind)
        if origin is Annotated:
            found += alternatives(arguments[:1])
        elif origin in (Union, types.UnionType):
            found += alternatives(arguments)
        else:
            found.append(kind)
    return found


def wants_text(kinds: Kinds) -> bool:
    """Return whether one of some alternatives is text, a path or a choice of words, and none is a number."""
    return any(kind in (str, Path, Url) or _origin(kind) is Literal for kind in kinds) and not {int, float} & set(kinds)


def of_key(kinds: Kinds, key: str) -> list[Any]:
    """Return the alternatives of a key of settings or of a mapping; [] for an unknown one."""
    found: list[Any] = []
    for kind in alternatives(kinds):
        if isinstance(kind, type) and issubclass(kind, BaseModel) and key in kind.model_fields:
            found.append(kind.model_fields[key].annotation)
        elif _origin(kind) is dict:
            found.append(typing.get_args(kind)[1])
    return alternatives(found)


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind)


def _items(kinds: Kinds, place: int) -> list[Any]:
    """Return the alternatives of an item of a list."""
    found: list[Any] = []
    for kind in kinds:
        if _origin(kind) in (tuple, list):
            arguments = [part for part in typing.get_args(kind) if part is not ...]
            found.append(arguments[min(place, len(arguments) - 1)])
    return found


def _mapping(value: dict[Any, Any], node: yaml.MappingNode, kinds: Kinds) -> dict[Any, Any]:
    """Return a mapping with its keys and values as they were typed; keys may be numbers."""
    has_numbers = any(_origin(kind) is dict and typing.get_args(kind)[0] is int for kind in kinds)
    return {
        key if has_numbers else name.value: as_typed(item, inner, of_key(kinds, name.value))
        for (key, item), (name, inner) in zip(value.items(), node.value, strict=True)
    }
