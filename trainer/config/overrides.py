"""Settings from the command line: `key.path=value`."""

from __future__ import annotations

from typing import Any

import yaml

from .typed_text import Kinds, of_key, wants_text
from .yaml_file import parse

_NULL = ("", "null", "Null", "NULL")


def apply_override(values: dict[str, Any], override: str, problems: list[str], kinds: Kinds = ()) -> None:
    """Set one key of nested values. A problem of the override is added to `problems`.

    kinds: the class of the settings.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        problems.append(f"{override!r}: an override reads key.path=value, for example batch_size=32")
        return
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(values.get(parent), dict):
            values[parent] = {}
        values, kinds = values[parent], of_key(kinds, parent)
    try:
        values[last] = value_of(text, of_key(kinds, last))
    except (yaml.YAMLError, ValueError):
        problems.append(f"{key}: {text!r} is not a YAML value; quote it")


def value_of(text: str, kinds: Kinds) -> Any:
    """Return the value of an override: YAML, but text or a path is what was typed, with `#` and all, without quotes.

    Raises yaml.YAMLError or ValueError where the text is no YAML and must be.
    """
    text = text.strip()
    if not wants_text(kinds) or text[:1] in ("'", '"'):
        return parse(text, kinds)
    return None if text in _NULL else text
