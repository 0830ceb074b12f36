"""Read YAML as Python values: text and paths as they were typed, integers as decimal ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from common import shipped
from common.errors import UserError

from .typed_text import Kinds, as_typed

_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_LEFT_OUT = (_INT, _FLOAT, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")


class Loader(yaml.SafeLoader):
    """YAML whose numbers are decimal, without dates and without duplicate keys.

    PyYAML reads 016 as octal 14, 1:30 as 90 and 1e-4 as a string. Here they are 16, text (which no number takes) and a
    float.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own name)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _LEFT_OUT]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping. Raises ConstructorError where a key appears twice."""
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} appears twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _integer(loader: Loader, node: yaml.ScalarNode) -> int:
    return int(node.value.replace("_", ""), 10)


Loader.add_constructor(_INT, _integer)
Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def parse(text: str | bytes, kinds: Kinds = ()) -> Any:
    """Return the value of a YAML text. Raises yaml.YAMLError or ValueError where it is none.

    kinds: the types that the value may have; where they want text or a path, it is what was typed.
    """
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else as_typed(loader.construct_document(node), node, kinds)
    finally:
        loader.dispose()


def read_yaml(path: Path, kind: Any = None) -> dict[str, Any]:
    """Return the values of a YAML file. Raises UserError where it is not there or is no mapping.

    kind: the class of settings that it has, or None for values as YAML has them.
    """
    try:
        values = parse(path.read_bytes(), () if kind is None else (kind,))
    except FileNotFoundError:
        raise UserError(f"{path}: no such config; {shipped.suggestion(str(path))}") from None
    except IsADirectoryError:
        config = path / "config.yaml"
        remedy = f"name its config, {config}" if config.is_file() else "name a YAML file"
        raise UserError(f"{path}: is a folder; {remedy}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}; correct that line") from None
    if not isinstance(values, dict):
        raise UserError(
            f"{path}: expected a mapping of settings, found {type(values).__name__}; `{shipped.LISTING}` lists examples"
        )
    return values
