"""What differs between two sets of settings, as data."""

from __future__ import annotations

import json
from typing import Any


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
