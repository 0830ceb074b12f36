"""The layout of the code: imports run one way between rooms, never in a circle, and no folder is too full."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_MODULES = 13  # of a folder
# A module belongs to the most specific room that its name begins with, and may import from its own room and from those
# above it in this list.
ROOMS = (
    "common",
    "models",
    "data_shards.remote",
    "data_shards.format",
    "data_shards.read",
    "data_shards.sources.containers",
    "data_shards.sources",
    "data_shards.sources.sprites",
    "data_shards.sources.photos",
    "data_shards.build",
    "data_shards",
    "trainer.config",
    "trainer.distributed",
    "trainer.labels",
    "trainer.steps",
    "trainer.checkpoints",
    "trainer.encoders",
    "trainer.memory",
    "trainer.stages",
    "trainer.pictures",
    "trainer.reporting",
    "trainer.jobs",
    "trainer.watch",
    "trainer.export",
    "trainer.public_code",
    "trainer.apps",
    "trainer.apps.explore",
    "trainer.experiments",
    "trainer.demo",
    "trainer",
    "evaluation.inputs",
    "evaluation.records",
    "evaluation.factors",
    "evaluation.published_networks",
    "evaluation.disentanglement",
    "evaluation.alignment",
    "evaluation.fid",
    "evaluation.exports",
    "evaluation.measure",
    "evaluation.measured_once",
    "evaluation.pages",
    "evaluation.experiments",
    "evaluation",
)
TOPS = tuple(dict.fromkeys(room.split(".")[0] for room in ROOMS))


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(root: Path) -> dict[str, Path]:
    """Every module of the rooms under root, by name, with its path relative to root."""
    paths = (path.relative_to(root) for top in TOPS for path in sorted((root / top).rglob("*.py")))
    return {module_name(path): path for path in paths}


def room_of(module: str) -> str:
    found = [room for room in ROOMS if module == room or module.startswith(f"{room}.")]
    assert found, f"{module} stands in no room of the table"
    return max(found, key=len)


def imported(source: str, module: str, is_package: bool, known: set[str]) -> list[tuple[int, str]]:
    """Modules of `known` that a source imports anywhere in it, with the lines: also within functions."""
    package = module if is_package else module.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            found += [(node.lineno, name if name in known else base) for name in names]
    return [(line, name) for line, name in found if name in known]


def import_table(root: Path) -> dict[str, list[tuple[int, str]]]:
    known = modules(root)
    return {
        module: imported((root / path).read_text(), module, path.name == "__init__.py", set(known))
        for module, path in known.items()
    }


def upward(table: dict[str, list[tuple[int, str]]], paths: dict[str, Path]) -> list[str]:
    """Imports of a room that stands below: a line each, with the file."""
    return [
        f"{paths[module]}:{line} imports {other}: {room_of(module)} stands above {room_of(other)}"
        for module, found in table.items()
        for line, other in found
        if ROOMS.index(room_of(other)) > ROOMS.index(room_of(module))
    ]


def circle(table: dict[str, list[tuple[int, str]]]) -> list[str]:
    """The modules of one circle of imports, or []."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for _, other in table[module]:
            if other != module and (found := walk(other, [*path, module])):
                return found
        done.add(module)
        return []

    return next((found for module in table if (found := walk(module, []))), [])


def test_no_room_imports_from_one_below_it() -> None:
    assert upward(import_table(ROOT), modules(ROOT)) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(import_table(ROOT)) == []


def test_no_folder_holds_more_modules_than_a_reader_takes_in() -> None:
    folders: dict[Path, int] = {}
    for path in modules(ROOT).values():
        if path.name not in ("__init__.py", "__main__.py"):
            folders[path.parent] = folders.get(path.parent, 0) + 1
    assert {str(folder): count for folder, count in folders.items() if count > MOST_MODULES} == {}


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("common/late.py", "def f() -> None:\n    from trainer import loop\n", "common/late.py:2 imports trainer.loop"),
        ("models/net.py", "import evaluation\n", "models/net.py:1 imports evaluation"),
        ("trainer/steps/x.py", "from ..stages import vae\n", "trainer/steps/x.py:1 imports trainer.stages.vae"),
    ],
)
def test_an_upward_import_is_named_with_its_file(path: str, text: str, found: str, tmp_path: Path) -> None:
    for name in ("trainer/__init__.py", "trainer/loop.py", "trainer/stages/vae.py", "evaluation/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    (problem,) = upward(import_table(tmp_path), modules(tmp_path))
    assert problem.startswith(found)


def test_a_circle_is_found() -> None:
    assert circle({"a": [(1, "b")], "b": [(1, "c")], "c": [(3, "b")]}) == ["b", "c"]
