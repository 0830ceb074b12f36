"""The wheel works where the source is not: in an environment of its own, from another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import free_port

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("common", "data_shards", "models", "trainer", "evaluation")
SHIPPED = ("configs", "slurm", "pretrained")
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", *PACKAGES, *SHIPPED)
TINY = ["vae=unread", "resolution=16", "growth=null", "network.nf=4", "checkpointing=null"]

IMPORT_EVERYTHING = """
import importlib, json, pkgutil
for package in ("common", "data_shards", "models", "trainer", "evaluation"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from importlib import metadata
import common, data_shards, models, trainer, evaluation
from evaluation.factors.factor_network import SCREAM_WEIGHTS, load_factor_extractor
load_factor_extractor()
load_factor_extractor(SCREAM_WEIGHTS)
packages = (common, data_shards, models, trainer, evaluation)
print(json.dumps({"version": metadata.version("idgan"), "files": [package.__file__ for package in packages]}))
"""


def run(*command: str | Path, cwd: Path, code: int = 0) -> str:
    """Standard output of a command, or standard error of one that must fail. It does not see PYTHONPATH's source."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stderr if code else done.stdout


SDIST = "import sys, setuptools.build_meta as build; build.build_sdist(sys.argv[1])"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is built from: building leaves files there."""
    source = tmp_path_factory.mktemp("source") / "idgan"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    return source


@pytest.fixture(scope="module")
def environment(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and, for its dependencies, the packages of the present one, but not this project.

    A line of a .pth file adds a folder to sys.path and does not read the .pth files in it, such as that of an editable
    install.
    """
    place = tmp_path_factory.mktemp("wheel")
    environment = place / "environment"
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, source, cwd=place)
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=place)
    (wheel,) = place.glob("*.whl")
    python = environment / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=place)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


@pytest.fixture
def python(environment: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs the environment's Python in an empty folder and returns what it prints."""
    return lambda *args, **code: run(environment / "bin" / "python", *args, cwd=tmp_path, **code)


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
    assert "zero3" in python("-m", "trainer", "plan", "celeba_hq/1024", *TINY, "--gpus-per-node", "2")


def test_what_is_shipped_is_listed_and_found(python: Callable[..., str], environment: Path) -> None:
    """The job scripts too, which are copied to where jobs are submitted."""
    (shipped,) = environment.glob("lib/python*/site-packages/trainer/shipped")
    for name in python("-m", "trainer", "shipped").split():
        assert (shipped / name).exists(), name
    for name, path in (("slurm", "slurm"), ("dsprites/idgan", "configs/dsprites/idgan.yaml")):
        assert python("-m", "trainer", "shipped", name) == f"{shipped / path}\n"


def test_a_gan_trains_on_shipped_files_with_zero1(python: Callable[..., str], tmp_path: Path) -> None:
    """A shipped config by its name, a shipped encoder, and DeepSpeed's settings, all of the wheel.

    Takes more than ten seconds: two processes import torch and DeepSpeed.
    """
    python("-m", "data_shards", "make", "dsprites", "--out", "data/dsprites", "--count", "32", "--workers", "1")
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()), "-m")
    size = ("batch_size=16", "schedule.total_kimg=0.032", "schedule.tick_kimg=0.016")
    vae = "vae=pretrained/dsprites-beta_vae"
    python(*launcher, "trainer", "gan", "dsprites/idgan", vae, "strategy=zero1", "processes=2", *size)
    run_folder = tmp_path / "runs" / "dsprites-idgan"
    assert json.loads((run_folder / "exit.json").read_bytes())["code"] == 0
    assert len((run_folder / "stats.jsonl").read_text().splitlines()) == 2


def test_what_is_not_there_is_named_with_its_key_and_file(
    python: Callable[..., str], environment: Path, tmp_path: Path
) -> None:
    """Configs, data, an extra and job scripts; the messages lead to what an installed package has."""
    (shipped,) = environment.glob("lib/python*/site-packages/trainer/shipped")
    config = shipped / "configs/celeba/beta_vae.yaml"
    message = python("-m", "trainer", "vae", "celeba/beta_vae", code=2)
    assert f"data/celeba-64: no such folder in {tmp_path} (data.path in {config})" in message
    assert "dsprites" not in message
    message = python("-m", "trainer", "vae", "celeba/beta-vae", code=2)
    assert "celeba/beta-vae: no such config; did you mean celeba/beta_vae?" in message
    assert "pip install 'idgan[parquet]'" in python(
        "-c", "from common import shipped; print(shipped.installing('parquet'))"
    )


def test_the_source_distribution_makes_the_same_wheel(source: Path, environment: Path, tmp_path: Path) -> None:
    """What pip builds where it finds no wheel."""
    run(sys.executable, "-c", SDIST, tmp_path, cwd=source)
    (archive,) = tmp_path.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, archive, cwd=tmp_path)
    (again,), (wheel,) = tmp_path.glob("*.whl"), environment.parent.glob("*.whl")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


def test_dsprites_are_made_and_described(python: Callable[..., str]) -> None:
    python("-m", "data_shards", "make", "dsprites", "--out", "few", "--count", "16", "--workers", "1")
    assert json.loads(python("-m", "data_shards", "info", "few", "--json"))["count"] == 16
