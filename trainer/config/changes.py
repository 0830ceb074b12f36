"""What differs between two sets of flat settings, as data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

# What the tensors of a checkpoint are made for: they fit no other value.
_SHAPES = frozenset(
    {"c_dim", "s_dim", "resolution", "code_loss", "d_sees_code", "precision", "ema.averages", "growth.start_resolution"}
    | {"network", "bottleneck", "growth"}
)


class Change(NamedTuple):
    """A key.path with its JSON values, None where there was or is none."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: was {json.dumps(self.old)}, now {json.dumps(self.new)}"

    @property
    def is_in_checkpoint(self) -> bool:
        """Whether a checkpoint holds what the setting decides: its tensors fit no other, or its own beta goes on."""
        group, _, name = self.key.partition(".")
        if group.startswith("optimizer"):
            return name in ("", "name")
        if group in ("bottleneck", "growth") and name and (self.old is None or self.new is None):
            return True
        return group == "network" or self.key in _SHAPES or self.key == "bottleneck.beta"


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What differs, in the order of the keys; no groups of which there are keys."""
    every = old.keys() | new.keys()
    keys = sorted(key for key in every if not any(other.startswith(f"{key}.") for other in every))
    missing = object()
    return [Change(key, old.get(key), new.get(key)) for key in keys if old.get(key, missing) != new.get(key, missing)]
