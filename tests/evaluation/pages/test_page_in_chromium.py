"""The report as a reader's browser shows it, on a phone and on a desktop."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.browser import chromium, look
from tests.support.evaluating import answer, evaluate, quickly
from tests.support.training import finish, train


@pytest.fixture(scope="module")
def page(sprites: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run with several samples and evaluations, and every section."""
    chromium()
    root = tmp_path_factory.mktemp("page")
    run, logs = root / "run", root / "logs"
    many = {"schedule__save_kimg": 0.016, "schedule__keep_last": 3, "schedule__sample_kimg": 0.016}
    finish(train("gan", sprites, run, 3, vae=vae, s_dim=4, **many))
    for step in (16, 32, 48):
        evaluate(logs, "fid", run, "--samples", 64, "--of", "gan,vae,reals", "--step", step)
    for command in ("disentanglement", "alignment", "latents", "control", "figures"):
        more = {"disentanglement": ("--protocol", "short"), "alignment": ("--samples", 64)}.get(command, ())
        finish(quickly(logs, command, run, *more))
    return Path(str(answer(evaluate(logs, "report", run))["page"]))


@pytest.mark.parametrize("width", [400, 1600])
def test_the_report_fits_and_every_image_is_decoded(width: int, page: Path, tmp_path: Path) -> None:
    """Takes more than ten seconds: a browser starts, and the run whose page it shows is trained and measured first."""
    found = look(page, width, tmp_path)
    assert found["width"] == found["scroll"] == pytest.approx(width, abs=20)  # a scroll bar
    assert not found["faults"]
    assert not found["console"]
    assert len(found["images"]) >= 10
    for wide, high, shown, hidden in found["images"]:
        assert wide > 0
        assert high > 0
        assert (shown > 0) != hidden
    assert (found["shown"], found["word"]) == (1, "0.016"), "the first moment, since the slider was moved there"


def test_a_broken_page_is_seen(page: Path, tmp_path: Path) -> None:
    """The measure itself: an image that is no image, a line that is too wide, an error in a script."""
    broken = tmp_path / "broken.html"
    shutil.copy(page, broken)
    bad = '<img src="data:image/png;base64,AAAA"><div style="width:3000px">x</div><script>nothing.at.all</script>'
    broken.write_text(broken.read_text().replace("</body>", f"{bad}</body>"))
    found = look(broken, 400, tmp_path)
    assert found["scroll"] > 2900
    assert found["images"][-1][0] == 0
    assert any("nothing" in fault for fault in found["faults"])
    assert found["console"]
