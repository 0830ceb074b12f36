"""docs/troubleshooting.md quotes messages that the program really has: each is found whole in its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"
GAP = "\0"  # what differs from case to case


def quoted() -> list[str]:
    """The lines of the page's blocks, each a message with <...> for what differs."""
    blocks = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def template(quote: str) -> str:
    """A quoted message with one gap for each <...>."""
    return re.sub(r"<[A-Z_]+>", GAP, quote)


def python_strings(source: str) -> Iterator[str]:
    """Every string of a program, with a gap for each value that is put into it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[sd]", GAP, node.value)


def shell_strings(source: str) -> Iterator[str]:
    """The messages of `fail`, with a gap for each variable."""
    for words in re.findall(r"\bfail ((?:\"[^\"]*\"(?:\s|\\\n)*)+)", source):
        joined = " ".join(re.findall(r"\"([^\"]*)\"", words))
        yield "error: " + re.sub(r"\$\{[^}]*\}|\$\w+", GAP, joined)


@pytest.fixture(scope="module")
def strings() -> list[str]:
    found: list[str] = []
    for package in ("common", "data_shards", "trainer", "evaluation"):
        for path in sorted((ROOT / package).rglob("*.py")):
            found += python_strings(path.read_text())
    for path in sorted((ROOT / "slurm").glob("*.sh")):
        found += shell_strings(path.read_text())
    return found


@pytest.mark.parametrize("quote", quoted())
def test_the_program_has_a_message_that_the_page_quotes(quote: str, strings: list[str]) -> None:
    assert any(matches(template(quote), text) for text in strings), quote


def matches(wanted: str, text: str) -> bool:
    """Whether they are the same, but that a last gap of the page may stand for all that follows."""
    return text == wanted or (wanted.endswith(GAP) and text.startswith(wanted.removesuffix(GAP)))


def test_a_message_that_was_changed_is_not_found() -> None:
    text = next(python_strings('f"{folder}: is full ({size} bytes); make room"'))
    assert matches(template("<FOLDER>: is full (<SIZE> bytes); make room"), text)
    assert not matches(template("<FOLDER>: is full (<SIZE> bytes)"), text)
    assert not matches(template("<FOLDER>: was full (<SIZE> bytes); make room"), text)
    assert list(shell_strings('fail "on $A: ${B[*]} is not" \\\n  "there"')) == [f"error: on {GAP}: {GAP} is not there"]
