"""Read YAML files as Python values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError


class Loader(yaml.SafeLoader):
    """YAML 1.2's floats (PyYAML reads 1e-4 as a string) and no duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping. Raises ConstructorError where a key appears twice."""
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} appears twice", node.start_mark)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the values of a YAML file. Raises UserError where it is not there or is no mapping."""
    try:
        values = yaml.load(path.read_text(), Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such config; configs/ holds those that are shipped") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}; correct that line") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {type(values).__name__}; see configs/")
    return values
