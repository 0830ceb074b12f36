"""The page of a generator that was just trained beside a shipped one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.evaluating import answer, lines, quickly, refused, self_contained, unmeasured
from tests.support.training import finish

FEW = ("--samples", 64)


@pytest.fixture(scope="module")
def run(systems: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unmeasured(systems["idgan"], tmp_path_factory.mktemp("side") / "run")


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run beside its own export."""
    out = tmp_path_factory.mktemp("page")
    finish(processes.command("trainer", ["export", run, out / "shipped"], out / "logs"))
    done = finish(quickly(out, "beside", run, out / "shipped", "--out", out / "page", *FEW))
    assert "reached" in done.out
    assert answer(done)["page"] == str(out / "page" / "index.html")
    return (out / "page" / "index.html").read_text()


def test_it_has_pictures_then_numbers_then_settings(page: str) -> None:
    assert self_contained(page)
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles[0] == "Images"
    assert titles[-4:] == ["Measured", "What a training of some minutes should reach", "Settings", "Commands"]
    assert len([title for title in titles if title.startswith("What each latent moves: ")]) == 2
    assert page.count("data:image/png;base64,") == 4 + 2  # reals, decodings, both generators; both traversals
    assert "Shipped, after 0.0 hours" in page
    assert re.search(r"After \d+ seconds here", page)
    assert "NO" not in re.sub(r"<pre>.*?</pre>|data:image[^\"]*", "", page, flags=re.DOTALL)


def test_its_numbers_are_the_records(page: str, run: Path) -> None:
    [fid] = [json.loads(line)["kinds"] for line in lines(run, "fid")]
    [aligned] = [json.loads(line)["kinds"] for line in lines(run, "alignment")]
    row = re.search(r"<td>FID: .*?</tr>", page)
    assert row is not None
    cells = re.findall(r"<td>(.*?)</td>", row[0])
    own = f"{fid['gan']['fid']:.3g}"
    assert cells[1:] == [*(f"{fid[kind]['fid']:.3g}" for kind in ("reals", "untrained", "vae")), own, own]
    assert f"{aligned['gan']['x']:.3f}" in page
    ratio = fid["untrained"]["fid"] / fid["gan"]["fid"]
    assert f"<td>{ratio:.1f} times</td><td>{'yes' if ratio >= 10 else 'not yet'}</td>" in page


def test_a_run_alone_has_a_page_and_another_system_is_refused(
    run: Path, systems: dict[str, Path], tmp_path: Path
) -> None:
    done = finish(quickly(tmp_path, "beside", run, "--out", tmp_path / "page", *FEW))
    text = Path(answer(done)["page"]).read_text()
    assert "Shipped, after" not in text
    refused(quickly(tmp_path, "beside", systems["gan"], *FEW), "is no generator on the code of a VAE", "`compare`")
