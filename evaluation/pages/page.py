"""Pages that need no other file: their parts as HTML, from templates in which every value is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from common.atomic_writes import publish
from trainer.pictures.image_grids import save

WIDEST = 2400  # px of a picture
NOTHING = Markup("")  # a part that a page leaves out
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    keep_trailing_newline=True,
)
_PARTS: Any = _TEMPLATES.get_template("parts.html").module


def publish_page(path: Path, title: str, parts: Iterable[Markup]) -> Path:
    """Write a page of these parts. Returns its path."""
    page = _TEMPLATES.get_template("page.html").render(title=title, parts=list(parts))
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, page.encode())
    return path


def heading(title: str, text: str) -> Markup:
    """Return the title of a page and the paragraph below it."""
    return Markup(_PARTS.heading(title, text))


def section(title: str, body: Markup, note: str = "") -> Markup:
    """Return a section: its title, a paragraph where there is a note, and its body."""
    return Markup(_PARTS.section(title, body, note))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Return a table of text cells. head: titles of the columns."""
    return Markup(_PARTS.table(head, list(rows)))


def wide(body: Markup) -> Markup:
    """Return a part that scrolls to the side where it is wider than the page."""
    return Markup(_PARTS.wide(body))


def figures(css_class: str, captioned: Sequence[tuple[Markup, str]]) -> Markup:
    """Return images with captions. css_class: how they are laid out, "pair" or "curves"."""
    return Markup(_PARTS.figures(css_class, captioned))


def preformatted(text: str) -> Markup:
    """Return text with its line breaks, in one width of letters."""
    return Markup(_PARTS.preformatted(text))


def folded(summary: str, text: str) -> Markup:
    """Return preformatted text that a reader unfolds by a click on the summary."""
    return Markup(_PARTS.folded(summary, text))


def bullets(lines: Sequence[str]) -> Markup:
    """Return a list, a bullet for each line."""
    return Markup(_PARTS.bullets(lines))


def slider(moments: Sequence[tuple[str, Markup]]) -> Markup:
    """Return images under a slider, of which one is shown: the last at first. moments: (kimg, image)."""
    return Markup(_PARTS.slider(moments))


def inline_image(alt: str, kind: str, content: bytes, css_class: str = "") -> Markup:
    """Return an <img> that holds the file's content. kind: of the MIME type image/KIND; alt: text in its place."""
    return Markup(_PARTS.image(alt, kind, base64.b64encode(content).decode(), css_class))


def image(path: Path, widest: int = WIDEST) -> Markup:
    """Return the <img> of a file; a PNG above `widest` px is shrunk by a whole number."""
    content = path.read_bytes()
    with _of_any_size(), Image.open(io.BytesIO(content)) as picture:
        kind = (picture.format or "PNG").lower()
        if picture.width > widest and kind == "png":
            buffer = io.BytesIO()
            picture.reduce(-(-picture.width // widest)).save(buffer, "PNG")
            content = buffer.getvalue()
    return inline_image(path.stem, kind, content, "pixels")


def saved(picture: Image.Image, path: Path) -> Markup:
    """Save a picture as a PNG file and return its <img>."""
    save(picture, path)
    return image(path)


@contextmanager
def _of_any_size() -> Iterator[None]:
    """Lift Pillow's limit on pixels: traversals of 20 latents at 1024 px have 343 million."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
