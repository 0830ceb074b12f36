"""A page in headless Chromium: what it measures of itself in a frame of a given width."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
)
_MEASURE = """
<script>
window.faults = [];
addEventListener("error", event => faults.push(String(event.message)), true);
const log = console.error; console.error = (...words) => { faults.push(words.join(" ")); log(...words); };
</script>
"""
_WRAPPER = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe style="border:0;width:WIDTHpx;height:900px" srcdoc="PAGE"></iframe><pre id="found"></pre>
<script>
addEventListener("load", async () => {
  const frame = document.querySelector("iframe"), page = frame.contentDocument, found = {};
  const images = [...page.images];
  for (const range of page.querySelectorAll("input[type=range]")) {
    range.value = 0; range.dispatchEvent(new Event("input"));
  }
  for (const image of images) await image.decode().catch(() => {});
  found.width = page.documentElement.clientWidth;
  found.scroll = page.documentElement.scrollWidth;
  found.faults = frame.contentWindow.faults;
  found.images = images.map(image => [image.naturalWidth, image.naturalHeight, image.getBoundingClientRect().width,
                                      !!image.closest("[hidden]")]);
  found.shown = [...page.querySelectorAll(".slider figure")].filter(figure => !figure.hidden).length;
  found.word = page.querySelector(".slider output")?.textContent;
  found.requests = performance.getEntriesByType("resource").length;
  document.querySelector("#found").textContent = JSON.stringify(found);
});
</script>
"""


def chromium() -> str:
    """Its program. Without one a test is skipped, unless IDGAN_NEEDS_CHROMIUM says that this machine has it."""
    for name in NAMES:
        if shutil.which(name):
            return name
    if os.environ.get("IDGAN_NEEDS_CHROMIUM"):
        pytest.fail("chromium is not installed")
    pytest.skip("needs Chromium (Debian: apt-get install chromium)")


def look(page: Path, width: int, folder: Path) -> dict[str, Any]:
    """What a page of `width` px finds: its widths, faults, images and the slider's first moment."""
    text = page.read_text().replace("<head>", f"<head>{_MEASURE}", 1)
    wrapper = folder / f"{width}.html"
    wrapper.write_text(_WRAPPER.replace("WIDTH", str(width)).replace("PAGE", html.escape(text, quote=True)))
    command = [chromium(), *_FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1700,1000", "--dump-dom"]
    done = subprocess.run([*command, wrapper.as_uri()], capture_output=True, text=True, timeout=120)
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stderr[-2000:]
    assert match[1], done.stderr[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    found["console"] = re.findall(r"CONSOLE.*", done.stderr)
    return found
