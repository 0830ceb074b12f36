"""What the project says of itself: one version, versions of CI within the bounds, and how to cite it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def constraints() -> dict[str, Version]:
    """Version by normalised name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normalised(name): Version(version) for name, version in pins}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_constraints_pin_every_dependency_within_its_bounds() -> None:
    """Those of the extras `bench` and `remote` are left out: the tests run without them."""
    pinned = constraints()
    extras = PROJECT["optional-dependencies"]
    pinned_extras = [extra for extra in extras if extra not in ("bench", "remote")]
    wanted = [*PROJECT["dependencies"], *(line for extra in pinned_extras for line in extras[extra])]
    for requirement in map(Requirement, wanted):
        name = normalised(requirement.name)
        if name == "idgan":
            continue
        assert name in pinned, f"constraints.txt: {name} is missing"
        assert pinned[name] in requirement.specifier, f"constraints.txt: {name}=={pinned[name]}, wanted {requirement}"


def test_the_constraints_leave_the_project_itself_out() -> None:
    assert "idgan" not in constraints()


def test_the_changelog_and_the_citation_have_the_version_of_the_project() -> None:
    releases = re.findall(r"^## \[?(\d+\.\d+\.\d+)\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[0] == PROJECT["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]


def test_the_code_has_no_version_of_its_own() -> None:
    """It reads the one in pyproject.toml from the installed package's metadata."""
    for package in ("common", "data_shards", "models", "trainer", "evaluation"):
        for path in (ROOT / package).rglob("*.py"):
            assert f'"{PROJECT["version"]}"' not in path.read_text(), path


def test_the_citation_has_what_its_format_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"]
    assert all(citation[key] for key in ("message", "title"))
    assert re.search(rf"\(c\) \d{{4}} {citation['authors'][0]['name']}\n", (ROOT / "LICENSE").read_text())
    (paper,) = citation["references"]
    assert all(paper[key] for key in ("type", "title", "authors", "year", "conference"))
