"""`python -m trainer checkpoints RUN`: what is there, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from tests.support import processes
from tests.support.training import BATCH, finish, train
from trainer.checkpoints import listing, published


def listed(run: Path, folder: Path) -> processes.Running:
    return processes.command("trainer", ["checkpoints", run], folder)


def test_each_step_is_listed_with_what_is_wrong_with_it(sprites: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(train("vae", sprites, run, 25, schedule__keep_last=9))
    newest, truncated, no_metadata, no_manifest, flipped = published.steps(run)
    (shard,) = truncated.glob("*.distcp")
    shard.write_bytes(shard.read_bytes()[:-100])
    (no_metadata / ".metadata").unlink()
    (no_manifest / published.MANIFEST).unlink()
    (flipped / ".metadata").write_bytes(bytes((flipped / ".metadata").stat().st_size))
    (published.folder(run) / "best").write_text(truncated.name + "\n")
    rows = listing.rows(run)
    assert [row.images_seen for row in rows] == [BATCH * n for n in (25, 20, 15, 10, 5)]
    assert (rows[0].resolution, rows[0].problem, rows[0].pointers) == (64, None, ("latest",))
    assert rows[0].bytes == sum(path.stat().st_size for path in newest.iterdir()) > 1e6
    assert rows[1].pointers == ("best",)
    for row, words in zip(
        rows[1:], ("bytes instead of", "lacks .metadata", "no readable manifest", "metadata"), strict=True
    ):
        assert row.problem is not None
        assert words in row.problem
    out = finish(listed(run, tmp_path)).out
    for words in (newest.name, "valid, latest", "not usable: it lacks .metadata", "400"):
        assert words in out
    assert all(len(line) <= 130 for line in out.splitlines())


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    running = finish(listed(tmp_path / "none", tmp_path), 2)
    assert "no checkpoint here; name a run folder that has trained" in running.err
    assert "Traceback" not in running.err
