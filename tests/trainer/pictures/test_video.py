"""Videos hold every picture, at the size and the rate that is asked for, or there is no file."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from trainer.apps.request import Request
from trainer.pictures import video


def pictures(count: int, size: tuple[int, int]) -> Iterator[Image.Image]:
    return (Image.new("RGB", size, (10 * k, 200, 0)) for k in range(count))


def test_an_mp4_of_an_odd_size_gets_a_white_line(tmp_path: Path) -> None:
    video.write_mp4(tmp_path / "x.mp4", pictures(20, (51, 40)), 5)
    with av.open(str(tmp_path / "x.mp4")) as file:
        assert file.streams.video[0].average_rate == 5
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in file.decode(video=0)]
    assert [frame.shape for frame in frames] == [(40, 52, 3)] * 20
    for k, frame in enumerate(frames):
        assert np.abs(frame[:, :48].mean((0, 1)) - (10 * k, 200, 0)).max() < 6
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]


def test_a_webp_is_lossless(tmp_path: Path) -> None:
    video.write_webp(tmp_path / "x.webp", pictures(20, (51, 40)), 10)
    with Image.open(tmp_path / "x.webp") as file:
        assert (file.n_frames, file.size, file.info["loop"]) == (20, (51, 40), 0)  # type: ignore[attr-defined]
        for k in range(20):
            file.seek(k)
            assert file.convert("RGB").getpixel((50, 39)) == (10 * k, 200, 0)
            assert file.info["duration"] == 100


@pytest.mark.parametrize("suffix", ["mp4", "webp"])
def test_a_walk_that_fails_leaves_no_file(suffix: str, tmp_path: Path) -> None:
    def failing() -> Iterator[Image.Image]:
        yield from pictures(3, (16, 16))
        raise UserError("the network makes images that are not finite")

    with pytest.raises(UserError, match="not finite"):
        getattr(video, f"write_{suffix}")(tmp_path / f"x.{suffix}", failing(), 10)
    assert list(tmp_path.iterdir()) == []


def test_without_its_package_an_mp4_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "av" else found(name))
    with pytest.raises(UserError, match=r"--video: mp4: needs the package av; install it \(.*\[video\].*or take webp"):
        Request.typed(tmp_path, tmp_path, "0-3", 1.0, *(None,) * 4, "mp4", None, None, "cpu")
    assert Request.typed(tmp_path, tmp_path, "0-3", 1.0, *(None,) * 4, "webp", None, None, "cpu").walks
