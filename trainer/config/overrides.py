"""Settings from the command line: `key.path=value`."""

from __future__ import annotations

from typing import Any

import yaml

from .yaml_file import Loader


def apply_override(values: dict[str, Any], override: str, problems: list[str]) -> None:
    """Set one key of nested values. A problem of the override is added to `problems`."""
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
        values[last] = yaml.load(text, Loader)
    except yaml.YAMLError:
        problems.append(f"{key}: {text!r} is not a YAML value; quote it")
