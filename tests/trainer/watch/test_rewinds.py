"""Where a rewind goes to, which rewinds count for a checkpoint, and the seed that follows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.checkpoints import published
from trainer.watch import rewinds
from trainer.watch.rewinds import Rewind

FIRST, SECOND = Rewind("samples", 0.0, 500, 300, 7), Rewind("logits", 30.0, 600, 200, 8)


def save(run: Path, clock: int, past: tuple[Rewind, ...] = (), usable: bool = True) -> None:
    """A checkpoint without tensors."""
    folder = published.folder(run) / published.name_of(clock)
    folder.mkdir(parents=True)
    files = {} if usable else {"lost": 1}
    manifest = {"format": published.FORMAT, "images_seen": clock, "files": files, "config": {"likelihood": "bernoulli"}}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"rewinds": rewinds.to_json(past)}))


def before(run: Path, clock: int) -> tuple[Rewind, ...]:
    return rewinds.before(run, published.read_manifest(published.folder(run) / published.name_of(clock)))


def test_it_goes_to_the_newest_usable_checkpoint_from_before_the_sign(tmp_path: Path) -> None:
    for clock in (100, 200, 300, 400):
        save(tmp_path, clock, usable=clock != 300)
    assert rewinds.target(tmp_path, 400, (), 100) == 400
    assert rewinds.target(tmp_path, 399, (), 100) == 200, "that of 300 cannot be used"
    assert rewinds.target(tmp_path, 199, (), 100) == 100


def test_a_second_rewind_to_the_same_checkpoint_takes_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, 300)
    assert rewinds.target(tmp_path, 350, (FIRST,), 100) == 300, "there is no other"
    save(tmp_path, 200)
    assert rewinds.target(tmp_path, 350, (FIRST,), 100) == 200
    assert rewinds.target(tmp_path, 350, (FIRST, SECOND), 100) == 300, "the last one went elsewhere"


def test_without_a_checkpoint_it_goes_to_the_start_only_where_none_was_due(tmp_path: Path) -> None:
    assert rewinds.target(tmp_path, 99, (), 100) == 0
    assert rewinds.target(tmp_path, 100, (), 100) is None, "what was saved then is gone"


def test_a_recorded_rewind_counts_where_it_led_until_a_checkpoint_has_it(tmp_path: Path) -> None:
    save(tmp_path, 200)
    save(tmp_path, 300)
    assert before(tmp_path, 300) == ()
    rewinds.record(tmp_path, (FIRST,))
    assert before(tmp_path, 300) == (FIRST,)
    assert before(tmp_path, 200) == (), "from there the run comes to 300 without it"
    assert rewinds.before(tmp_path, None) == ()
    save(tmp_path, 400, (FIRST,))
    rewinds.record(tmp_path, (FIRST, SECOND))
    assert before(tmp_path, 400) == (FIRST,)
    assert before(tmp_path, 200) == (FIRST, SECOND)
    (tmp_path / rewinds.FILE).write_text("{")
    assert before(tmp_path, 400) == (FIRST,), "the manifest is enough"


def test_a_rewind_to_the_start_counts_there(tmp_path: Path) -> None:
    to_start = Rewind("samples", 0.0, 90, 0, 9)
    rewinds.record(tmp_path, (to_start,))
    assert rewinds.before(tmp_path, None) == (to_start,)
    rewinds.record(tmp_path, ())
    assert not (tmp_path / rewinds.FILE).exists()


def test_a_rewind_that_was_cut_is_completed_and_one_that_went_on_is_not(tmp_path: Path) -> None:
    for clock in (300, 400):
        save(tmp_path, clock)
    rewinds.record(tmp_path, (FIRST,))
    rewinds.complete(tmp_path)
    assert [published.clock_of(path) for path in published.steps(tmp_path)] == [300]
    assert (published.folder(tmp_path) / f"{published.name_of(400)}.skipped").is_dir()
    save(tmp_path, 400, (FIRST,))
    rewinds.complete(tmp_path)
    assert [published.clock_of(path) for path in published.steps(tmp_path)] == [400, 300]


def test_each_rewind_has_a_seed_of_its_own_and_none_has_the_configs() -> None:
    for seed in (0, 1, 2**32 - 1):
        assert rewinds.seed_after(seed, 0) == seed
        assert len({rewinds.seed_after(seed, count) for count in range(20)}) == 20
    assert rewinds.seed_after(0, 1) != rewinds.seed_after(1, 1)
    with pytest.raises(ValueError, match="outside"):
        rewinds.seed_after(2**32, 1)
