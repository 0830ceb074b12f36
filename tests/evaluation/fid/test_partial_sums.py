"""A pass over images on several processes, stopped and gone on with, against all features at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from common.errors import UserError
from evaluation.fid.partial_sums import BLOCK, ROUND, Extracted, Store, Sums, pass_over
from evaluation.fid.sharpness import SharpnessSums
from tests.support import processes
from tests.trainer.distributed import contract
from trainer.distributed.world import ALONE, connect, disconnect

DIM, COUNT = 5, 30 * BLOCK - 11
SIZES = (64, 256)  # of images whose sharpness is summed; the numbers stand for theirs


def look(positions: Tensor) -> Extracted:
    """Features that are a function of the position, far from 0; sharpness of the first thousand images."""
    at = positions.double()[:, None] * torch.arange(1, DIM + 1)
    sharpness = tuple(sharpness_of(positions[positions < 1000], size) for size in SIZES)
    return Extracted((at.sin() + 3).float(), positions % 3 == 0, sharpness if positions[0] < 1000 else ())


def sharpness_of(positions: Tensor, size: int) -> SharpnessSums:
    """Numbers of which every position has its own."""
    kinds = torch.arange(len(SharpnessSums.empty(size).numbers))
    return SharpnessSums(size, (1 + positions.double()[:, None] * kinds / size).sum(0).numpy())


def of_all() -> np.ndarray:
    return look(torch.arange(COUNT)).features.double().numpy()


def assert_right(found: Sums) -> None:
    everything = of_all()
    assert found.moments.count == COUNT
    assert found.faithful == -(-COUNT // 3)
    assert found.moments.mean == pytest.approx(everything.mean(0), rel=1e-12)
    assert found.moments.covariance == pytest.approx(np.cov(everything, rowvar=False), rel=1e-9)
    for size in SIZES:
        assert found.sharpness[size].count == 1000
        assert found.sharpness[size].numbers == pytest.approx(sharpness_of(torch.arange(1000), size).numbers, rel=1e-12)


def store(folder: Path, features: int | None = None, **more: int) -> Store:
    return Store(folder, {"seed": 0} | more, features, SIZES)


def child(folder: str, fatal: int | None = None) -> None:
    """One rank; it kills itself where it looks at the block `fatal`."""

    def deadly(positions: Tensor) -> Extracted:
        if fatal is not None and int(positions[0]) == fatal * BLOCK:
            os.kill(os.getpid(), signal.SIGKILL)
        return look(positions)

    world = connect("cpu", None)
    pass_over(COUNT, deadly, DIM, store(Path(folder)), world)
    disconnect()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_any_number_of_processes_sees_every_image_once(size: int, tmp_path: Path) -> None:
    contract.run(child, tmp_path, size=size)
    assert_right(store(tmp_path).open(DIM))
    blocks = sorted((tmp_path).glob("*/*.npy"))
    assert [int(path.stem) for path in blocks] == list(range(30))
    assert np.concatenate([np.load(path) for path in blocks]) == pytest.approx(of_all(), rel=1e-6)


def ranks(size: int, folder: Path, fatal: int | None) -> list[int]:
    port = str(processes.free_port())
    started = [
        processes.start(child, (str(folder), fatal), folder / f"logs{r}", processes.rank_env(r, size, port))
        for r in range(size)
    ]
    return [process.wait(120) for process in started]


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1), (2, 3)])
def test_a_killed_pass_goes_on_at_another_number_of_processes(first: int, then: int, tmp_path: Path) -> None:
    fatal = first * ROUND + 3  # in the second round
    assert -signal.SIGKILL in ranks(first, tmp_path, fatal)
    partial = store(tmp_path).open(DIM)
    assert partial.blocks == first * ROUND
    assert partial.moments.count == first * ROUND * BLOCK
    assert ranks(then, tmp_path, None) == [0] * then
    assert_right(store(tmp_path).open(DIM))
    assert len(list(tmp_path.glob("*/*.npy"))) == 30


def test_what_is_done_is_not_looked_at_again(tmp_path: Path) -> None:
    pass_over(COUNT, look, DIM, store(tmp_path), ALONE)
    told: list[int] = []

    def never(positions: Tensor) -> Extracted:
        raise AssertionError(f"looked at {positions[0]} again")

    assert_right(pass_over(COUNT, never, DIM, store(tmp_path), ALONE, told.append))
    assert told == [COUNT]
    with pytest.raises(AssertionError, match="looked at 0 again"):  # other facts, other sums
        pass_over(COUNT, never, DIM, store(tmp_path, seed=1), ALONE)


def dies_in_its_second_save(folder: str) -> None:
    """When the file is written and has not got its name yet."""
    real, done = os.replace, []

    def second_kills(old: str, new: str) -> None:
        done.append(new)
        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        real(old, new)

    os.replace = second_kills
    child(folder)


def test_a_kill_inside_a_save_costs_one_round(tmp_path: Path) -> None:
    killed = processes.start(dies_in_its_second_save, (str(tmp_path),), tmp_path / "logs")
    assert killed.wait(120) == -signal.SIGKILL
    assert store(tmp_path).open(DIM).blocks == ROUND
    assert_right(pass_over(COUNT, look, DIM, store(tmp_path), ALONE))


def test_features_that_a_crash_emptied_are_told_and_made_again(tmp_path: Path) -> None:
    """A node that dies after a rename may leave a file of 0 bytes."""
    mine = store(tmp_path, features=100)
    pass_over(COUNT, look, DIM, mine, ALONE)
    (mine.features / "000001.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"features are gone.*run the same command again"):
        mine.load_features(100)
    pass_over(COUNT, look, DIM, mine, ALONE)
    assert mine.load_features(100) == pytest.approx(of_all()[:100], rel=1e-6)


def test_sums_that_are_no_longer_whole_are_made_again(tmp_path: Path) -> None:
    mine = store(tmp_path, features=100)
    pass_over(COUNT, look, DIM, mine, ALONE)
    assert sorted(path.name for path in mine.features.iterdir()) == ["000000.npy", "000001.npy"]  # the first 100
    assert mine.load_features(100) == pytest.approx(of_all()[:100], rel=1e-6)
    mine.path.write_bytes(mine.path.read_bytes()[:-9])
    assert mine.open(DIM).blocks == 0
    assert_right(pass_over(COUNT, look, DIM, mine, ALONE))
    mine.remove()
    assert not list(tmp_path.iterdir())


def test_features_that_are_not_finite_end_the_pass(tmp_path: Path) -> None:
    def diverged(positions: Tensor) -> Extracted:
        return Extracted(look(positions).features / (positions != 700)[:, None])

    with pytest.raises(UserError, match=r"images 640 to 703 give features that are not finite"):
        pass_over(COUNT, diverged, DIM, store(tmp_path), ALONE)
    assert store(tmp_path).open(DIM).blocks == ROUND  # what was before stays
