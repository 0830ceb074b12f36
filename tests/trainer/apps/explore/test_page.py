"""The page in headless Chromium, used as by a user: keys, clicks, files."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import chromium
from tests.support.devtools import Page, page
from tests.support.exploring import Server, exploring, untrained, write_export

from .conftest import FACES

Use = Callable[[Page], Awaitable[None]]
IMAGE, RANGE = "document.querySelector('#image img')", "document.querySelector('#latents input[type=range]')"
IDLE = "document.querySelector('#image .frame').getAttribute('aria-busy') === 'false'"
PIXELS = """(async (image) => {
  try { await image.decode(); } catch { return ""; }  // another image has taken its place
  const pen = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
  pen.drawImage(image, 0, 0);
  return [...pen.getImageData(0, 0, image.naturalWidth, image.naturalHeight).data].join();
})(document.querySelector('#image img'))"""


def visit(server: Server, folder: Path, use: Use, width: int, px: int = 64) -> None:
    """Open the page and use it. No script may fail, nothing be asked of other machines, nothing wider than the page."""

    async def run() -> None:
        async with page(folder) as tab:
            await tab.open(server.url, width)
            await tab.until(f"{IMAGE}.naturalWidth === {px} && {IDLE}")
            await use(tab)
            found = await tab.value("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert found[0] == found[1] == pytest.approx(width, abs=20)  # a scroll bar
            assert tab.faults == []
            assert [url for url in tab.requests if not url.removeprefix("blob:").startswith(server.url)] == []

    chromium()
    asyncio.run(run())


async def becomes(tab: Page, png: bytes) -> None:
    """Wait until the page shows an image, pixel by pixel."""
    expected = np.asarray(Image.open(io.BytesIO(png)))
    for _ in range(300):
        if pixels := await tab.value(PIXELS):
            shown = np.array(pixels.split(","), np.uint8).reshape(*expected.shape[:2], 4)
            if np.array_equal(shown[..., :3], expected):
                return
        await asyncio.sleep(0.03)
    raise AssertionError("another image is shown")


def test_a_slider_moves_the_image_and_a_drag_does_not_queue(faces: Server, tmp_path: Path) -> None:
    latents = faces.get("/api/seed/0")
    place = faces.get("/api/model")["sliders"][0]["place"]

    async def use(tab: Page) -> None:
        await becomes(tab, faces.post("/api/image", latents))
        await tab.value(f"{RANGE}.focus()")
        await tab.press("ArrowRight", 39)
        moved = float(await tab.value(f"{RANGE}.value"))
        assert moved == pytest.approx(latents["c"][place] + 0.01, abs=0.006)
        latents["c"][place] = moved
        await becomes(tab, faces.post("/api/image", latents))
        assert await tab.value("document.querySelector('#c-seed-input').value") == ""
        before = len(tab.requests)
        drag = "for (let k = 0; k < 200; k++) { r.value = k / 100 - 1; r.dispatchEvent(new Event('input')); }"
        await tab.value(f"(r => {{ {drag} }})({RANGE})")
        latents["c"][place] = 0.99
        await becomes(tab, faces.post("/api/image", latents))
        assert len([url for url in tab.requests[before:] if url.endswith("/api/image")]) <= 3
        await tab.click("[data-another=s]")
        typed = "document.querySelector('#s-seed-input').value"
        seed = await tab.until(f"{typed} !== '0' && {typed}")
        await becomes(tab, faces.post("/api/image", latents | {"s": faces.get(f"/api/seed/{seed}")["s"]}))

    visit(faces, tmp_path, use, 1600)


def test_a_picture_is_read_and_fitted_and_what_is_none_is_told(faces: Server, tmp_path: Path) -> None:
    sample, text = tmp_path / "sample.png", tmp_path / "text.png"
    sample.write_bytes(faces.post("/api/image", faces.get("/api/seed/7")))
    text.write_text("no image")
    place, limit = (model := faces.get("/api/model"))["sliders"][0]["place"], model["limit"]
    code = json.loads(faces.post("/api/picture", sample.read_bytes()))["c"]

    async def use(tab: Page) -> None:
        await tab.choose_file("#file", text)
        problem = "document.querySelector('#problem')"
        assert "not a readable image" in await tab.until(f"!{problem}.hidden && {problem}.textContent")
        await tab.choose_file("#file", sample)
        await tab.until(f"!document.querySelector('#fit').hidden && {problem}.hidden")
        read = await tab.value("document.querySelector('#sliders input[type=number]').value")
        assert float(read) == pytest.approx(code[place], abs=0.006)
        await becomes(tab, faces.post("/api/image", {"s": [0.0] * 32, "c": code}))
        await tab.click("#fit-start")
        await tab.until("document.querySelector('#fit-progress').value > 0.05")
        await tab.click("#fit-stop")
        await tab.until("document.querySelector('#fit-progress').hidden")
        first, last = (await tab.value("document.querySelector('#fit-error').textContent")).split()[-3::2]
        assert float(last) < float(first)
        await _end_a_fit_by_a_slider(tab, limit)

    visit(faces, tmp_path, use, 400)


async def _end_a_fit_by_a_slider(tab: Page, limit: float) -> None:
    """The fit does not take back what the user did, nor the keys."""
    await tab.click("#fit-start")
    await tab.until("document.querySelector('#fit-progress').value > 0.02")
    await tab.value(f"{RANGE}.focus()")
    await tab.press("End", 35)
    await tab.until("document.querySelector('#fit-progress').hidden")
    assert await tab.value(f"{RANGE}.valueAsNumber") == limit
    assert await tab.value(f"document.activeElement === {RANGE}")


@pytest.mark.parametrize("skips", [True, False])
def test_of_a_large_image_a_smaller_one_comes_first(skips: bool, tmp_path: Path) -> None:
    """G's own, or the VAE's decoding; meanwhile something turns."""

    async def use(tab: Page) -> None:
        await tab.value(
            "window.seen = [], new MutationObserver(() => window.seen.push("
            "[document.querySelector('#image img').src, document.querySelector('.spinner').hidden]))"
            f".observe({IMAGE}, {{attributes: true, attributeFilter: ['src']}})"
        )
        await tab.value(f"{RANGE}.focus()")
        await tab.press("Home", 36)
        await tab.until(f"window.seen.length >= 2 && {IDLE} && {IMAGE}.naturalWidth === 512")
        assert [hidden for _, hidden in await tab.value("window.seen")][:1] == [False]
        asked = [url.rpartition("/")[2] for url in tab.requests if "/api/" in url]
        assert asked.index("preview" if skips else "decoding") < asked.index("image")
        assert ("preview" in asked) == skips
        assert await tab.value("document.querySelector('.spinner').hidden")

    with exploring(write_export(untrained(512, skips), tmp_path / "export"), tmp_path) as server:
        visit(server, tmp_path, use, 1600, 512)


def test_a_class_is_chosen_and_stays_where_s_becomes_the_mean(tmp_path: Path) -> None:
    """The label vector stands behind s: beard has the last three of its places."""
    with exploring(write_export(untrained(64, True, labelled=True), tmp_path / "export"), tmp_path) as server:
        latents = server.get("/api/seed/0")
        first = latents["s"][6:].index(1) if 1 in latents["s"][6:] else -1
        chosen = "document.querySelector('#label-beard')"

        async def use(tab: Page) -> None:
            await becomes(tab, server.post("/api/image", latents))
            assert await tab.value(f"{chosen}.value") == str(first)
            await tab.value(f"{chosen}.value = 2; {chosen}.dispatchEvent(new Event('change'))")
            latents["s"][6:] = [0, 0, 1]
            await becomes(tab, server.post("/api/image", latents))
            await tab.click("[data-mean=s]")
            latents["s"][:4] = [0.0] * 4
            await becomes(tab, server.post("/api/image", latents))
            assert await tab.value(f"{chosen}.selectedOptions[0].text") == "chin"

        visit(server, tmp_path, use, 400)


def test_a_gan_without_an_encoder_says_what_it_cannot_do(tmp_path: Path) -> None:
    async def use(tab: Page) -> None:
        assert "without a code" in await tab.value("document.querySelector('#order').textContent")
        assert "cannot read the code" in await tab.value("document.querySelector('#no-upload').textContent")
        assert await tab.value("document.querySelector('#upload').hidden")
        assert await tab.value("document.querySelectorAll('#sliders input[type=range]').length") == 4

    with exploring(write_export(untrained(64, True, 0, "none"), tmp_path / "export"), tmp_path) as server:
        assert "no encoder" in server.refused("/api/picture", b"")
        visit(server, tmp_path, use, 400)


def test_a_name_an_image_and_its_code_are_kept(tmp_path: Path) -> None:
    async def use(tab: Page) -> None:
        await tab.value("document.querySelector('#sliders input.name').focus()")
        await tab.type("hair")
        await tab.press("Enter", 13)
        await tab.until(f"{RANGE}.getAttribute('aria-label').startsWith('hair (c')")
        await tab.value(f"{RANGE}.focus()")
        await tab.press("End", 35)
        await tab.until(f"{IDLE} && document.querySelector('#c-seed-input').value === ''")
        await tab.save_downloads(tmp_path / "saved")
        await tab.click("#save-code")
        await tab.click("#save-png")
        code, png = await _saved(tmp_path / "saved", "*.json"), await _saved(tmp_path / "saved", "*.png")
        assert server.post("/api/image", json.loads(code.read_bytes())) == png.read_bytes()
        assert "hair" in json.loads(code.read_bytes())["names"].values()
        await becomes(tab, png.read_bytes())
        await tab.click("[data-another=c]")
        await tab.until("document.querySelector('#c-seed-input').value !== ''")
        await tab.choose_file("#code-file", code)
        await becomes(tab, png.read_bytes())
        unlabelled = "[...document.querySelectorAll('input')].filter(e => !e.labels.length && !e.ariaLabel).length"
        assert await tab.value(unlabelled) == 0

    with exploring(FACES, tmp_path) as server:
        visit(server, tmp_path, use, 400)
    assert list(json.loads((tmp_path / "names.json").read_text()).values()) == ["hair"]


async def _saved(folder: Path, pattern: str) -> Path:
    """A file that the browser saves, once it is there."""
    for _ in range(300):
        for file in folder.glob(pattern):
            if file.stat().st_size:
                return file
        await asyncio.sleep(0.03)
    raise AssertionError(f"{pattern} was not saved")
