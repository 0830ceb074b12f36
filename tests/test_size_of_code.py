"""No function is longer than a reader takes in at once, nothing is nested deeply, no file is long."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("common", "models", "data_shards", "trainer", "evaluation", "benchmarks")
MOST_LINES, MOST_NESTED, MOST_LINES_OF_A_FILE = 40, 3, 400
BLOCKS = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Try, ast.Match)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def depth(node: ast.AST, nested: int = 0) -> int:
    """Return how deep the blocks of a function are nested. `elif` is as deep as `if`; inner functions count alone."""
    deepest = nested
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        is_elif = field == "orelse" and isinstance(node, ast.If) and len(children) == 1
        for child in children:
            if isinstance(child, Function | ast.ClassDef | ast.Lambda) or not isinstance(child, ast.AST):
                continue
            opens = isinstance(child, BLOCKS) and not (is_elif and isinstance(child, ast.If))
            deepest = max(deepest, depth(child, nested + opens))
    return deepest


def problems(source: str, name: str) -> list[str]:
    found = []
    for function in functions(source):
        assert function.end_lineno is not None
        lines = function.end_lineno - function.lineno + 1
        if lines > MOST_LINES:
            found.append(f"{name}:{function.lineno} {function.name} has {lines} lines")
        if depth(function) > MOST_NESTED:
            found.append(f"{name}:{function.lineno} {function.name} is nested {depth(function)} deep")
    if source.count("\n") > MOST_LINES_OF_A_FILE:
        found.append(f"{name} has {source.count(chr(10))} lines")
    return found


def test_functions_and_files_are_short_and_flat() -> None:
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 100
    assert [line for path in paths for line in problems(path.read_text(), str(path.relative_to(ROOT)))] == []


def test_what_is_long_or_deep_is_named() -> None:
    long = "def long() -> None:\n" + "    pass\n" * MOST_LINES
    deep = "def deep() -> None:\n" + "".join(f"{'    ' * (i + 1)}if True:\n" for i in range(4)) + "    " * 5 + "pass\n"
    chain = "def chain(x: int) -> None:\n    if x == 0:\n        pass\n" + "".join(
        f"    elif x == {i}:\n        pass\n" for i in range(1, 6)
    )
    assert problems(long, "a.py") == ["a.py:1 long has 41 lines"]
    assert problems(deep, "a.py") == ["a.py:1 deep is nested 4 deep"]
    assert problems(chain, "a.py") == []
