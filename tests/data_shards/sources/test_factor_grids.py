"""3D Shapes, MPI3D and Cars3D: small replicas of the published files, read back image by image."""

from __future__ import annotations

import dataclasses
import json
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from common.errors import UserError
from data_shards.format import manifest
from data_shards.read.loader import open_dataset
from data_shards.sources.factor_grids import CARS3D, MPI3D, SHAPES3D, grid
from tests.support import processes
from tests.support.replicas import black
from tests.support.training import finish

SMALL = {
    "shapes3d": {"floor_hue": 2, "wall_hue": 3, "object_hue": 2, "scale": 2, "shape": 2, "orientation": 3},
    "mpi3d": {"color": 2, "shape": 3, "size": 2, "camera_height": 2, "background": 2, "horizontal": 2, "vertical": 3},
    "cars3d": {"elevation": 3, "azimuth": 5, "object": 7},
}
PUBLISHED = {"shapes3d": SHAPES3D, "mpi3d": MPI3D, "cars3d": CARS3D}


def pictures(count: int) -> np.ndarray:
    """Images that tell their place, in blocks of 8 px, which are coded faster than noise."""
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)


def replica(folder: Path, name: str, images: np.ndarray | None = None) -> Path:
    """As published, with fewer classes a factor."""
    images = pictures(int(np.prod([*SMALL[name].values()]))) if images is None else images
    path = folder / PUBLISHED[name].file
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("images", data=images, chunks=(7, 64, 64, 3))
            file.create_dataset("labels", data=np.zeros((len(images), 6)))
    else:
        np.savez_compressed(path, **{PUBLISHED[name].array: images})
    return path


def make(name: str, argv: list[str], folder: Path) -> processes.Running:
    """`python -m data_shards make NAME ...`, which takes the replica for the published file."""
    return processes.start(_made, (name, argv), folder)


def _made(name: str, argv: list[str]) -> None:
    PUBLISHED[name].grids[0].clear()  # type: ignore[attr-defined]
    PUBLISHED[name].grids[0].update(SMALL[name])  # type: ignore[attr-defined]
    processes.module("data_shards", ["make", name, *argv, "--workers", "1"])


@pytest.mark.parametrize("name", SMALL)
def test_every_image_is_there_with_its_factors(name: str, tmp_path: Path) -> None:
    path, out = replica(tmp_path, name), tmp_path / "out"
    finish(make(name, [str(path), "--out", str(out), "--samples-per-shard", "31"], tmp_path / "logs"))
    found, level = manifest.load(out), open_dataset(out, 64)
    assert {factor.name: factor.size for factor in found.factors} == SMALL[name]
    images = level.read_samples(np.arange(found.count)).permute(0, 2, 3, 1).numpy()
    assert (images == pictures(found.count)).all()
    every = np.array(list(product(*map(range, SMALL[name].values()))))
    assert (level.factors == every).all()


def test_a_subset_is_the_same_every_time_and_read_from_the_right_rows(tmp_path: Path) -> None:
    for name in ("shapes3d", "cars3d"):
        source = dataclasses.replace(PUBLISHED[name], grids=(SMALL[name],))
        path = replica(tmp_path, name)
        some = grid(path, source, 23)
        assert (some.index == grid(path, source, 23).index).all()
        everything = pictures(int(np.prod([*SMALL[name].values()])))
        for start, stop in ((0, 23), (5, 9), (9, 9)):
            part = list(some.part(start, stop))
            assert [sample.labels["index"] for sample in part] == some.index[start:stop].tolist()
            assert all((sample.image == everything[sample.labels["index"]]).all() for sample in part)


def test_the_published_counts_are_those_of_the_factors() -> None:
    counts = {p.name: [int(np.prod([*sizes.values()])) for sizes in p.grids] for p in (SHAPES3D, MPI3D, CARS3D)}
    assert counts == {"shapes3d": [480_000], "mpi3d": [1_036_800, 460_800], "cars3d": [17_568]}


def test_a_file_of_the_published_size_is_taken(tmp_path: Path) -> None:
    found = grid(black(tmp_path / "3dshapes.h5", "images", 480_000), SHAPES3D, None)
    assert len(found.names) == 480_000
    assert [factor.size for factor in found.factors] == [10, 10, 10, 8, 4, 15]
    (last,) = found.part(479_999, 480_000)
    assert last.factors == {name: size - 1 for name, size in SHAPES3D.grids[0].items()}


@pytest.mark.parametrize("name", SMALL)
def test_other_files_are_refused(name: str, tmp_path: Path) -> None:
    published = PUBLISHED[name]
    with pytest.raises(
        UserError, match=rf"{published.array} is uint8 \(\d+, 64, 64, 3\), not uint8 \(\d+.*name the published"
    ):
        grid(replica(tmp_path, name), published, None)
    np.savez(tmp_path / "other.npz", other=np.zeros(3))
    with pytest.raises(UserError, match=f"holds no array {published.array}; name the published"):
        grid(tmp_path / "other.npz", published, None)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(UserError, match="damaged, or not a readable npz or hdf5"):
        grid(tmp_path / "text.npz", published, None)
    np.savez(tmp_path / "objects.npz", **{published.array: np.array([{}, {}], object)})
    with pytest.raises(UserError, match=r"not a plain one"):
        grid(tmp_path / "objects.npz", published, None)
    small = dataclasses.replace(published, grids=(SMALL[name],))
    with pytest.raises(UserError, match="--count is 0"):
        grid(replica(tmp_path, name), small, 0)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path, small = replica(tmp_path, "cars3d"), dataclasses.replace(CARS3D, grids=(SMALL["cars3d"],))
    found = grid(path, small, None)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + content[-300:])
    with pytest.raises(UserError, match=r"cars3d.npz: damaged"):
        list(found.part(0, 105))


def facts(running: processes.Running) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(running.out)
    return found


def test_info_tells_the_factors(tmp_path: Path) -> None:
    path, out = replica(tmp_path, "cars3d"), tmp_path / "out"
    finish(make("cars3d", [str(path), "--out", str(out)], tmp_path / "logs"))
    assert (
        facts(finish(processes.command("data_shards", ("info", out, "--json"), tmp_path / "logs")))["factors"]
        == (SMALL["cars3d"])
    )
