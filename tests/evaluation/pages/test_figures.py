"""The detail of large images, walks through latents, and the PDF: what they show, read back from the files."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from evaluation.inputs.images import codes, nuisance, of_codes
from evaluation.inputs.run import open_run
from evaluation.pages import interpolation, pdf, zoom
from evaluation.pages.pdf import Panel


def test_every_panel_shows_half_the_side_of_the_one_before_around_the_detail() -> None:
    rng = np.random.default_rng(0)
    image = torch.zeros(3, 1024, 1024, dtype=torch.uint8)
    image[:, 600:728, 200:328] = torch.from_numpy(rng.integers(0, 256, (3, 128, 128), np.uint8))
    panels = zoom.strip(torch.stack([image, image.flip(2)]))
    assert panels.shape == (2, 4, 3, 256, 256)
    for whole, shown in zip((image, image.flip(2)), panels, strict=True):
        assert torch.equal(shown[0], torch.from_numpy(np.asarray(_boxed(whole))))
        light = shown.float().mean((1, 2, 3))
        assert (light[1:] > 3.5 * light[:-1]).all(), "all of the square is in each"
        last = shown[3][:, ::2, ::2]
        assert torch.equal(last, shown[3][:, 1::2, 1::2]), "pixels are doubled"
        assert (whole.unfold(1, 128, 8).unfold(2, 128, 8) == last[:, None, None]).all(-1).all(-1).all(0).any()


def _boxed(image: torch.Tensor) -> np.ndarray:
    means = image.reshape(3, 256, 4, 256, 4).double().mean((2, 4))
    return np.floor(means.numpy() + 0.5).astype(np.uint8)


def test_the_video_is_lossless_and_passes_through_its_codes(systems: dict[str, Path], tmp_path: Path) -> None:
    run = open_run(systems["idgan"])
    interpolation.video(run, "posterior", 0, tmp_path / "walk.webp")
    film = Image.open(tmp_path / "walk.webp")
    walks = 4
    assert film.n_frames == interpolation.KEYS * interpolation.STEPS
    assert film.info["loop"] == 0
    at = torch.arange(walks * interpolation.KEYS)
    expected = of_codes(run, "gan", codes(run, 0, at, "posterior", 0), nuisance(run, 0, at))
    for key in range(interpolation.KEYS):
        film.seek(key * interpolation.STEPS)
        shown = np.asarray(film.convert("RGB"))
        for walk in range(walks):
            x = 2 + walk * 66
            assert (shown[2:66, x : x + 64, 0] == expected[key * walks + walk, 0].numpy()).all()


def test_words_of_the_pdf_are_vectors_and_images_are_lossless(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (3, 3, 64, 64), np.uint8))
    large = torch.from_numpy(rng.integers(0, 256, (2, 1, 512, 512), np.uint8))
    panels = [
        Panel("First", "a note", [("c1", images), ("c2", images.flip(0))], ["s1", "s2", "s3"]),
        Panel("Second", "", [("", large)]),
    ]
    pdf.write(tmp_path / "a.pdf", panels)
    content = (tmp_path / "a.pdf").read_bytes()
    assert content.count(b"/Type /Page ") + content.count(b"/Type /Page\n") == 2
    stored = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    streams = [_inflated(stream) for stream in stored]
    shown = re.findall(rb"\[(.*?)\]\sTJ|(\(.*?\)) Tj", b"\n".join(streams), re.DOTALL)  # kerned: a list
    words = {b"".join(re.findall(rb"\((.*?)\)", kerned or plain)).replace(b"\0", b"") for kerned, plain in shown}
    assert words >= {b"First", b"a note", b"c1", b"c2", b"s1", b"s2", b"s3", b"Second"}
    wide, high = 3 * 66 + 2, 68
    found = [_as_png(stream, wide, high) for stream in stored if len(_inflated(stream)) == high * (1 + 3 * wide)]
    assert len(found) == 2
    for row, order in zip(found, (images, images.flip(0)), strict=True):
        for j, image in enumerate(order):
            shown = row[::-1][2:66, 2 + 66 * j : 66 + 66 * j]  # a PDF counts rows from below
            assert (shown == image.permute(1, 2, 0).numpy()).all()


def _as_png(stream: bytes, wide: int, high: int) -> np.ndarray:
    """The pixels of a RGB image whose rows are filtered as in a PNG file, by Pillow."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    whole = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    return np.asarray(Image.open(io.BytesIO(whole)))


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""


@pytest.mark.parametrize("name", ["idgan", "gan", "factor_vae"])
def test_traversals_of_every_kind_of_run_have_rows_of_seven(name: str, systems: dict[str, Path]) -> None:
    from evaluation.factors.latents import traversal_rows
    from evaluation.pages.figures import traversals

    run = open_run(systems[name])
    panel, rows = traversals(run, 0), traversal_rows(run, 0)
    assert {len(images) for _, images in panel.rows} == {7}
    both = name == "idgan"
    assert ("the VAE's decodings" in panel.note) == both
    words = [words for words, _ in panel.rows]
    assert all(words[:: 2 if both else 1])
    assert not both or not any(words[1::2])
    for i, row in enumerate(rows):
        assert torch.equal(panel.rows[2 * i + 1 if both else i][1], row.images)
        if both:
            assert run.vae is not None
            decoded = (run.vae.decode(row.c) * 255).round().to(torch.uint8)
            assert torch.equal(panel.rows[2 * i][1], decoded), "both are of 64 px"


def test_chosen_latents_have_the_rows_that_all_have_under_their_names(systems: dict[str, Path]) -> None:
    from evaluation.factors.latents import choose, traversal_rows

    run = open_run(systems["idgan"])
    rows = {row.name: row for row in traversal_rows(run, 0)}
    azimuth, bangs = traversal_rows(run, 0, choose(run, "c3, c1", "azimuth,bangs", None))
    assert (azimuth.name, bangs.name) == ("azimuth", "bangs")
    assert azimuth.note.startswith("c3, ")
    assert torch.equal(azimuth.images, rows["c3"].images)
    assert torch.equal(bangs.images, rows["c1"].images)
    (other,) = traversal_rows(run, 0, choose(run, "c3", None, 5))
    assert other.name == "c3"
    assert other.note == rows["c3"].note
    assert torch.equal(other.images, {row.name: row for row in traversal_rows(run, 5)}["c3"].images)
    assert not torch.equal(other.images, rows["c3"].images)


@pytest.mark.parametrize(
    ("latents", "names", "words"),
    [
        ("c3,c99", None, "--latents: 'c99' is none of this run's; it has c1, c2"),
        ("c3,c3", None, "--latents: c3,c3 has one of them twice"),
        ("c3,c1", "azimuth", "--names: has 1 names for 2 latents"),
        (None, "azimuth", "--names: needs --latents"),
    ],
)
def test_a_choice_of_latents_that_cannot_be_is_refused(
    latents: str | None, names: str | None, words: str, systems: dict[str, Path]
) -> None:
    from evaluation.factors.latents import choose

    with pytest.raises(UserError, match=re.escape(words)):
        choose(open_run(systems["idgan"]), latents, names, None)
