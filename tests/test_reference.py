"""docs/reference/ says what the code says."""

from __future__ import annotations

import re
import runpy
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from common import cli

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    """The names in docs/generate_reference.py, which is not part of a package."""
    return runpy.run_path(str(ROOT / "docs" / "generate_reference.py"))


def test_the_reference_is_up_to_date(generator: dict[str, Any]) -> None:
    for path, text in generator["pages"]().items():
        name = path.relative_to(ROOT)
        assert path.read_text() == text, f"{name} differs from the code; refresh it with: {generator['COMMAND']}"


def test_the_reference_does_not_depend_on_the_terminal(
    generator: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = generator["pages"]()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")
    assert generator["pages"]() == pages


def test_every_key_of_a_shipped_config_is_in_the_reference() -> None:
    """An independent look: keys as YAML files have them, not as the models declare them."""
    text = (ROOT / "docs/reference/settings.md").read_text()
    for path in [*(ROOT / "configs").glob("*/*.yaml"), *(ROOT / "trainer/rates").glob("*.yaml")]:
        if path.parent.name == "accelerate":
            continue
        for key in keys(yaml.safe_load(path.read_text())):
            if path.parent.name == "experiments":
                key = re.sub(r"^(budgets|cells)\.[^.]+\.", r"\1.NAME.", key)  # names are the file's own
                key = re.sub(r"^variants\..+\.(overrides)$", r"variants.NAME.\1", key)
                key = re.sub(r"^claims$", "claims[].test", key)  # a list of settings
                key = re.sub(r"^(sets|budgets\.NAME\.(?:measure|hours|cells))\..*", r"\1", key)
                if re.fullmatch(r"(budgets|variants)\.[^.]+", key):  # one without settings
                    continue
            assert f"`{key}`" in text, f"{path}: {key}"


def keys(values: dict[Any, Any], prefix: str = "") -> list[str]:
    """Key paths of a config. Numbers are resolutions, which stand in values."""
    found = []
    for name, value in values.items():
        if isinstance(name, int):
            continue
        nested = isinstance(value, dict) and value and not all(isinstance(key, int) for key in value)
        found += keys(value, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
    return found


def test_every_path_of_a_command_line_is_read_with_home_and_variables_expanded(generator: dict[str, Any]) -> None:
    """So that no command is left out: every argument and option that is a path has the reader of common/cli.py."""
    wrong, count = [], 0
    for program, app in generator["PROGRAMS"].items():
        for name, _, command in generator["commands"](app, program):
            for declared, hint in generator["declarations"](command):
                kind, info = typing.get_args(hint)
                if kind is typing.Any:
                    wrong += [] if info.parser is cli.location else [f"{name}: {declared.name}"]
                if Path in (kind, *typing.get_args(kind)):
                    count += 1
                    wrong += (
                        []
                        if info.parser in (cli.path, cli.shipped_path, cli.shipped_config)
                        else [f"{name}: {declared.name}"]
                    )
    assert wrong == []
    assert count > 50
