"""Pages show names of files and folders as they are, whatever characters they hold."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from evaluation.pages import charts, page
from tests.support.evaluating import quickly, unmeasured
from tests.support.training import finish

NAME, ESCAPED = '<b>&"', "&lt;b&gt;&amp;&#34;"


class Parsed(HTMLParser):
    """The tags and the text of a page, as a browser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def run(systems: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measured run in a folder of this name, which its exit file has as well."""
    folder = tmp_path_factory.mktemp("runs") / NAME
    unmeasured(systems["gan"], folder)
    exit_file = folder / "exit.json"
    exit_file.write_text(json.dumps(json.loads(exit_file.read_text()) | {"command": f"train run={NAME}"}))
    return folder


@pytest.mark.parametrize("command", ["report", "compare"])
def test_nothing_of_a_folder_called_like_a_tag_reaches_the_page_unescaped(
    command: str, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "page"
    more = {"report": (), "compare": ("--samples", 64)}[command]
    finish(quickly(tmp_path / "logs", command, run, "--out", out, *more))
    text = (out / "index.html").read_text()
    parsed = Parsed(text)
    assert "b" not in parsed.tags
    assert NAME not in text
    assert str(run) in parsed.text
    assert f"run={NAME}" in parsed.text, "the command that trained it"


def test_titles_of_images_and_charts_are_escaped(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / f"{NAME}.png")
    for image in (page.image(tmp_path / f"{NAME}.png"), charts.svg(Figure(), NAME)):
        assert NAME not in image
        assert f'alt="{ESCAPED}"' in image


def test_text_in_every_part_is_escaped_and_parts_stay_as_they_are() -> None:
    inner = page.preformatted(NAME)
    for part in (
        page.heading(NAME, NAME),
        page.section(NAME, inner, NAME),
        page.table([NAME], [[NAME]]),
        page.figures("pair", [(inner, NAME)]),
        page.folded(NAME, NAME),
        page.bullets([NAME]),
        page.slider([(NAME, inner)]),
        page.wide(inner),
    ):
        assert "<b>" not in part
        assert "&amp;lt;" not in part, "escaped once"
        assert ESCAPED in part
