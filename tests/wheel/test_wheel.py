"""The wheel works where the source is not: in an environment of its own, from another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("common", "data_shards", "models", "trainer", "evaluation")
SHIPPED = ("configs", "slurm", "pretrained")
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", *PACKAGES, *SHIPPED)
TINY_CONFIG = ROOT / "configs/celeba_hq/1024.yaml"
TINY = ["vae=unread", "resolution=16", "growth=null", "network.nf=4", "checkpointing=null"]

IMPORT_EVERYTHING = """
import importlib, json, pkgutil
for package in ("common", "data_shards", "models", "trainer", "evaluation"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from importlib import metadata
import common, data_shards, models, trainer, evaluation
from evaluation.factors.factor_network import load_factor_extractor
load_factor_extractor()
packages = (common, data_shards, models, trainer, evaluation)
print(json.dumps({"version": metadata.version("idgan"), "files": [package.__file__ for package in packages]}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command, which must succeed. It does not see the source that PYTHONPATH may name."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and, for its dependencies, the packages of the present one, but not this project.

    A line of a .pth file adds a folder to sys.path and does not read the .pth files in it, such as that of an editable
    install.
    """
    place = tmp_path_factory.mktemp("wheel")
    source, environment = place / "source", place / "environment"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, source, cwd=place)
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=place)
    (wheel,) = place.glob("*.whl")
    python = environment / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=place)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.rmtree(source)
    return environment


@pytest.fixture
def python(environment: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs the environment's Python in an empty folder and returns what it prints."""
    return lambda *args: run(environment / "bin" / "python", *args, cwd=tmp_path)


@pytest.mark.parametrize("program", ["trainer", "data_shards", "evaluation"])
def test_a_program_prints_its_help(python: Callable[..., str], program: str) -> None:
    assert "--help" in python("-m", program, "--help")


def test_every_module_and_the_weights_of_the_factor_network_are_there(
    python: Callable[..., str], environment: Path
) -> None:
    answer = json.loads(python("-c", IMPORT_EVERYTHING).splitlines()[-1])
    assert answer["version"] == PROJECT["version"]
    assert all(Path(file).is_relative_to(environment) for file in answer["files"]), answer["files"]


def test_every_file_of_the_packages_is_there(environment: Path) -> None:
    """Weights, templates and settings too, which pyproject.toml has to name."""
    (installed,) = environment.glob("lib/python*/site-packages")
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (installed / path.relative_to(ROOT)).is_file(), path.relative_to(ROOT)


def test_every_shipped_file_is_there_and_nothing_else(environment: Path) -> None:
    (installed,) = environment.glob("lib/python*/site-packages/trainer/shipped")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *SHIPPED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()} == set(
        listed.stdout.split()
    )


def test_a_shipped_model_opens_in_any_folder(python: Callable[..., str]) -> None:
    images = "import trainer; print(trainer.load('pretrained/dsprites-beta_vae').sample(2).shape)"
    assert "torch.Size([2, 1, 64, 64])" in python("-c", images)


def test_a_plan_finds_the_shipped_rates_and_the_settings_of_deepspeed(python: Callable[..., str]) -> None:
    """DeepSpeed's settings are read for the columns zero1 to zero3, which two processes have."""
    assert "zero3" in python("-m", "trainer", "plan", TINY_CONFIG, *TINY, "--gpus-per-node", "2")


def test_dsprites_are_made_and_described(python: Callable[..., str]) -> None:
    python("-m", "data_shards", "make", "dsprites", "--out", "few", "--count", "16", "--workers", "1")
    assert json.loads(python("-m", "data_shards", "info", "few", "--json"))["count"] == 16
