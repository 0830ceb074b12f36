"""A page in headless Chromium, which measures itself in a frame of a given width."""

from __future__ import annotations

import html
import json
import os
import queue
import re
import shutil
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--remote-debugging-port=0",  # so that it runs until it gets SIGTERM
    "--window-size=1700,1000",
)
_MEASURE = """
<script>
window.faults = [];
addEventListener("error", event => faults.push(String(event.message)), true);
const log = console.error; console.error = (...words) => { faults.push(words.join(" ")); log(...words); };
</script>
"""
_WRAPPER = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe style="border:0;width:WIDTHpx;height:900px" srcdoc="PAGE"></iframe>
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
  await fetch("/", {method: "POST", body: JSON.stringify(found)});
});
</script>
"""


def chromium() -> str:
    """Return the name of its program. Without one the test is skipped, or fails if IDGAN_NEEDS_CHROMIUM is set."""
    for name in NAMES:
        if shutil.which(name):
            return name
    if os.environ.get("IDGAN_NEEDS_CHROMIUM"):
        pytest.fail("chromium is not installed")
    pytest.skip("needs Chromium (Debian: apt-get install chromium)")


def look(page: Path, width: int, folder: Path) -> dict[str, Any]:
    """Open a page at `width` px and return what it measures: widths, faults, images and the slider's first moment."""
    text = page.read_text().replace("<head>", f"<head>{_MEASURE}", 1)
    wrapper = _WRAPPER.replace("WIDTH", str(width)).replace("PAGE", html.escape(text, quote=True)).encode()
    answers: queue.Queue[bytes] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(wrapper if self.path == "/" else b"")

        def do_POST(self) -> None:
            answers.put(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(b"")

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    log = folder / f"{width}.log"
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, log.open("wb") as out:
        Thread(target=server.serve_forever, daemon=True).start()
        command = [chromium(), *FLAGS, f"--user-data-dir={folder / 'profile'}"]
        running = subprocess.Popen([*command, f"http://127.0.0.1:{server.server_port}/"], stdout=out, stderr=out)
        try:
            measured: dict[str, Any] = json.loads(answers.get(timeout=120))
        except queue.Empty:
            raise AssertionError(log.read_text()[-2000:]) from None
        finally:
            running.terminate()
            running.wait(30)
            server.shutdown()
    measured["console"] = re.findall(r"CONSOLE.*", log.read_text())
    return measured
