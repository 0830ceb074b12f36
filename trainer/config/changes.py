"""What differs between two sets of flat settings, as data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

# Settings that the tensors of a checkpoint depend on: they fit no other value, or mean something else with one.
_TENSORS = frozenset(
    {"c_dim", "s_dim", "labels", "resolution", "code_loss", "d_sees_code", "precision", "ema.averages"}
    | {"growth.start_resolution"}
    | {"bottleneck", "growth", "growth.warm_start", "init_from"}
)


class Change(NamedTuple):
    """A key.path with its old and new JSON value; None where there is none."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: was {json.dumps(self.old)}, now {json.dumps(self.new)}"

    @property
    def is_in_checkpoint(self) -> bool:
        """Whether a checkpoint fixes the setting: its tensors fit no other value, or it holds the value (beta)."""
        group, _, name = self.key.partition(".")
        if group.startswith("optimizer"):
            return name in ("", "name")
        if group in ("bottleneck", "growth") and name and (self.old is None or self.new is None):
            return True
        return group == "network" or self.key in _TENSORS or self.key == "bottleneck.beta"


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """List the keys whose values differ, sorted. A group is left out where there are keys of it."""
    every = old.keys() | new.keys()
    keys = sorted(key for key in every if not any(other.startswith(f"{key}.") for other in every))
    missing = object()  # is not None, which is a value
    different = [key for key in keys if old.get(key, missing) != new.get(key, missing)]
    return [Change(key, old.get(key), new.get(key)) for key in different]
