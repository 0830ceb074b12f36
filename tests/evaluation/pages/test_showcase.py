"""The page of what exports make, without their runs and data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.evaluating import answer, evaluate, refused, self_contained
from tests.support.training import finish


@pytest.fixture(scope="module")
def exports(systems: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exports of a VAE, of an ID-GAN on it, and of a GAN without a code."""
    root = tmp_path_factory.mktemp("exports")
    for name in ("factor_vae", "idgan", "gan"):
        finish(processes.command("trainer", ["export", systems[name], root / name], root / "logs"))
    return {name: root / name for name in ("factor_vae", "idgan", "gan")}


def test_the_page_shows_every_model_and_needs_no_other_file(exports: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(exports["idgan"], tmp_path / "grown")
    page = Path(
        answer(evaluate(tmp_path, "showcase", *exports.values(), tmp_path / "grown", "--out", tmp_path))["page"]
    )
    text = page.read_text()
    assert self_contained(text)
    for name in (*exports, "grown"):
        assert f"<h2>{name}</h2>" in text
    assert "<h2>gan: what each latent moves</h2>" not in text
    assert text.count("The same codes, as the network grows") == 1
    assert text.count("0.00 million images in 0.0 hours on CPU") >= 4
    refused(evaluate(tmp_path, "showcase", tmp_path, code=2), "is no export")
