"""Disentanglement on sets whose factors come from a published file, not from the dSprites renderer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data_shards.read.loader import open_dataset
from evaluation.disentanglement.encoding import representation, space_of
from evaluation.disentanglement.factor_vae import FvmProtocol, fvm
from evaluation.disentanglement.labelled_codes import places, random_factors
from evaluation.disentanglement.mig import mig
from evaluation.inputs.run import open_run
from tests.data_shards.sources.test_factor_grids import SMALL, make, pictures, replica
from tests.support import processes
from tests.support.evaluating import answer, quickly, refused
from tests.support.training import finish, train


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small 3D Shapes, and a VAE on it."""
    root = tmp_path_factory.mktemp("shapes")
    path = replica(root, "shapes3d")
    finish(make("shapes3d", [str(path), "--out", str(root / "data")], root / "logs"))
    finish(train("vae", root / "data", root / "vae", 3))
    return root / "data", root / "vae"


def test_every_metric_is_measured_over_its_factors(shapes: tuple[Path, Path], tmp_path: Path) -> None:
    record = answer(finish(quickly(tmp_path, "disentanglement", shapes[1], "--protocol", "short")))
    assert record["factors"] == SMALL["shapes3d"]
    assert np.array(record["mig"]["information"]).shape == (6, 10)
    assert 0 <= record["fvm"]["train_accuracy"] <= 1


def test_images_and_codes_are_those_of_the_grid(shapes: tuple[Path, Path]) -> None:
    run = open_run(shapes[1])
    space = space_of(run, 0)
    sizes = tuple(SMALL["shapes3d"].values())
    assert (space.names, space.sizes) == (tuple(SMALL["shapes3d"]), sizes)
    classes = random_factors(np.random.default_rng(0), 20, sizes)
    images = torch.cat(list(space.images(places(classes, sizes))))
    assert (
        images.permute(0, 2, 3, 1).numpy() == pictures(space.count)[np.ravel_multi_index(tuple(classes.T), sizes)]
    ).all()
    few, whole = (representation(run, space, grid)(np.array([3, 99, 3])) for grid in (False, True))
    with torch.no_grad():
        mean, _ = run.require_encoder()(
            open_dataset(shapes[0], 64).read_samples(np.array([3, 99, 3])).float() / 127.5 - 1
        )
    assert few == pytest.approx(mean.numpy(), abs=1e-5)
    assert whole == pytest.approx(few, abs=1e-5)


def test_a_code_that_is_the_factors_scores_one() -> None:
    """Of other sizes than dSprites': MIG is the entropy of a factor in its bins over its entropy, here 1."""
    sizes = (3, 4, 2, 5)

    def represent(index: np.ndarray) -> np.ndarray:
        return np.stack(np.unravel_index(index, sizes), 1).astype(float)

    rng = np.random.default_rng(0)
    found = fvm(represent, sizes, FvmProtocol(None, 0.05, 32, 400, 0), rng)
    assert found == {"train_accuracy": 1.0, "eval_accuracy": None, "pruned": []}
    factors = random_factors(rng, 20_000, sizes)
    assert mig(represent(places(factors, sizes)), factors)[0] == pytest.approx(1, abs=1e-3)


def test_what_has_no_whole_grid_is_refused(shapes: tuple[Path, Path], tmp_path: Path) -> None:
    path = replica(tmp_path, "shapes3d")
    finish(make("shapes3d", [str(path), "--out", str(tmp_path / "few"), "--count", "64"], tmp_path / "logs"))
    finish(train("vae", tmp_path / "few", tmp_path / "run", 1))
    refused(quickly(tmp_path, "disentanglement", tmp_path / "run"), "holds 64 of 144 combinations", "without --count")
    running = processes.command("evaluation", ("alignment", shapes[1], "--samples", 8), tmp_path)
    refused(running, "trained on shapes3d", "the shipped networks know dsprites and faces only")
