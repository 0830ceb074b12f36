"""Names of what comes with the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import shipped

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", ["celeba/256", "celeba/256.yaml", "configs/celeba/256", "configs/celeba/256.yaml", "./celeba//256"]
)
def test_a_config_by_any_of_its_names(name: str) -> None:
    assert shipped.config(Path(name)) == ROOT / "configs/celeba/256.yaml"


@pytest.mark.parametrize(
    "name", ["celeba", "configs", ".", "celeba/257", "../configs/celeba/256", "slurm/lib.sh", "/celeba/256"]
)
def test_what_is_no_config_stays_as_it_is(name: str) -> None:
    assert shipped.config(Path(name)) == Path(name)


def test_a_file_that_is_there_goes_before_what_is_shipped() -> None:
    Path("celeba").mkdir()
    assert shipped.config(Path("celeba/256.yaml")) == ROOT / "configs/celeba/256.yaml"
    Path("celeba/256.yaml").touch()
    assert shipped.config(Path("celeba/256.yaml")) == Path("celeba/256.yaml")
    assert shipped.config(Path("celeba/256")) == ROOT / "configs/celeba/256.yaml"


def test_models_and_folders_by_their_names() -> None:
    model = Path("pretrained/faces-beta_vae")
    assert shipped.found(model) == ROOT / model
    for name in ("common", "pretrained/none", "pretrained/../common", "/pretrained/faces-beta_vae"):
        assert shipped.found(Path(name)) == Path(name)
    model.mkdir(parents=True)
    assert shipped.found(model) == model


def test_every_listed_name_is_one() -> None:
    names = shipped.names()
    assert len(names) == len(set(names)) > 30
    assert all((ROOT / name).exists() for name in names)
    assert shipped.suggestion("dsprites/idgam") == (
        "did you mean dsprites/idgan? `python -m trainer shipped` lists what comes with the program"
    )
    assert shipped.suggestion("quite another").startswith("`python -m trainer shipped`")
