"""A page in headless Chromium, driven as a user would: clicks, keys, files. It notes all requests and errors."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from .browser import FLAGS, chromium

PATIENCE = 30.0  # seconds


class Page:
    """A tab. requests: the addresses that it asked for; faults: errors of its scripts, and what its console shows."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._ids = socket, itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requests: list[str] = []
        self.faults: list[str] = []

    async def listen(self) -> None:
        """Take what the browser sends, for as long as the page is there."""
        async for message in self._socket:
            content = json.loads(message.data)
            if "id" in content:
                self._answers.pop(content["id"]).set_result(content)
                continue
            parameters = content.get("params", {})
            if content["method"] == "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            elif parameters.get("entry", {}).get("source") == "network":
                pass  # a status that says that something is refused, which the page is to show
            elif content["method"] in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.faults.append(json.dumps(parameters)[:600])

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol."""
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(self._answers[number], PATIENCE)
        assert "error" not in answer, f"{method}: {answer}"
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, url: str, width: int = 1600, height: int = 1000) -> None:
        for domain in ("Network", "Runtime", "Log", "Page"):
            await self.call(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **metrics)
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """The value of an expression in the page, awaited if it is a promise."""
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = await self.call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until an expression is true in the page, and return its value. An error is not true yet."""
        end = time.monotonic() + PATIENCE
        tried = f"(() => {{ try {{ return {expression} }} catch {{ return false }} }})()"
        while not (found := await self.value(tried)):
            assert time.monotonic() < end, f"never: {expression}\n{self.faults}"
            await asyncio.sleep(0.03)
        return found

    async def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    async def type(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        """Click in the middle of an element with the mouse."""
        place = "(e => { e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
        x, y = await self.value(f"{place} return [r.x + r.width / 2, r.y + r.height / 2] }})({_found(selector)})")
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def choose_file(self, selector: str, file: Path) -> None:
        """Choose a file for an input of files."""
        found = await self.call("Runtime.evaluate", expression=_found(selector))
        await self.call("DOM.setFileInputFiles", files=[str(file)], objectId=found["result"]["objectId"])

    async def save_downloads(self, folder: Path) -> None:
        await self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    async def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot"))["data"]))


def _found(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"


@asynccontextmanager
async def page(folder: Path) -> AsyncIterator[Page]:
    """A tab of a browser that runs meanwhile. folder: for its files."""
    command = [chromium(), *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with (folder / "browser.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        port = await _port(folder / "profile" / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                (tab,) = [found for found in await answer.json() if found["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                opened = Page(socket)
                listening = asyncio.ensure_future(opened.listen())
                yield opened
                listening.cancel()
    finally:
        running.terminate()
        running.wait(30)


async def _port(file: Path) -> int:
    """The port that a browser that was just started writes to a file."""
    end = time.monotonic() + PATIENCE
    while not file.exists() or not file.read_text().strip():
        assert time.monotonic() < end, "the browser does not start"
        await asyncio.sleep(0.05)
    return int(file.read_text().split()[0])
