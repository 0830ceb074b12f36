"""Pages that need no other file: sections, tables and pictures as HTML."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from common.atomic_writes import publish

WIDEST = 2400  # px of a picture

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2530; background: #fff; }
body { margin: 0 auto; max-width: 1100px; padding: 24px 16px; }
h1 { font-size: 1.6rem; margin: 0 0 4px; } h2 { font-size: 1.15rem; margin: 36px 0 8px; }
p, figcaption { color: #4a5563; margin: 4px 0 12px; max-width: 75ch; }
figure { margin: 0; } img { max-width: 100%; height: auto; } .pixels { image-rendering: pixelated; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 20px; }
.pair img, .curves img { width: 100%; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 12px; border-bottom: 1px solid #e3e7ec; }
th:first-child, td:first-child { text-align: left; padding-left: 0; } th { font-weight: 600; color: #4a5563; }
pre { background: #f4f6f8; padding: 12px; overflow-x: auto; font-size: 13px; border-radius: 6px; }
code { overflow-wrap: anywhere; }
.slider input { width: min(100%, 420px); display: block; } .slider img { width: 100%; } [hidden] { display: none; }
summary { cursor: pointer; color: #2b6cb0; margin: 8px 0; } h1 { overflow-wrap: anywhere; }
"""


def publish_page(path: Path, title: str, parts: Iterable[str]) -> Path:
    """Write a page; its path."""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><link rel='icon' href='data:,'>"
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, page.encode())
    return path


def section(title: str, body: str, note: str = "") -> str:
    return f"<h2>{html.escape(title)}</h2>{f'<p>{html.escape(note)}</p>' if note else ''}{body}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{html.escape(c)}</th>" for c in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


@contextmanager
def _of_any_size() -> Iterator[None]:
    """Pillow refuses what could be a bomb; traversals of 20 latents at 1024 px have 343 million pixels."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def image(path: Path, widest: int = WIDEST) -> str:
    """A picture in the page; a wider one is shrunk by a whole number."""
    content = path.read_bytes()
    with _of_any_size(), Image.open(io.BytesIO(content)) as picture:
        kind = (picture.format or "PNG").lower()
        if picture.width > widest and kind == "png":
            buffer = io.BytesIO()
            picture.reduce(-(-picture.width // widest)).save(buffer, "PNG")
            content = buffer.getvalue()
    data = base64.b64encode(content).decode()
    return f'<img class="pixels" alt="{html.escape(path.stem)}" src="data:image/{kind};base64,{data}">'
