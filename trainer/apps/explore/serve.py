"""python -m trainer explore: a page in the browser to play with a trained model, from a server on this machine."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from common import shipped
from common.errors import UserError
from common.signals import handling
from trainer.apps.request import Device

from .guard import Guard

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger(__name__)
END_SECONDS = 1.0  # that requests have to end when the program does


@dataclass(frozen=True)
class Request:
    """What is asked for. names: a file, None is the one in the export; port: 0 is any; browser: whether to open one."""

    export: Path
    names: Path | None
    host: str
    port: int
    browser: bool
    device: Device


def explore(request: Request) -> None:
    """Serve the page until Ctrl-C or another signal that asks for a stop.

    Raises a UserError where there is no such export, the port cannot be had, or aiohttp is not installed.
    """
    _refuse_no_aiohttp()
    with _listening(request.host, request.port) as listener:
        from trainer.distributed.world import connect, disconnect

        from .session import Session

        try:
            session = Session(request.export, request.names, connect(request.device, None).device)
            url = f"http://{_in_url(request.host)}:{listener.getsockname()[1]}/"
            guard = Guard(request.host)
            _serve(session, guard, listener, lambda: _announce(request, session.name, url, guard))
        finally:
            disconnect()


def _announce(request: Request, name: str, url: str, guard: Guard) -> None:
    """Say where the page is, and open it."""
    print(f"{name}: open {url} (Ctrl-C ends it)", flush=True)
    if not guard.is_local:
        log.warning("--host %s: whoever reaches this machine can use the page and name latents", request.host)
    if request.browser and _has_display():
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _serve(session: Session, guard: Guard, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Answer requests until a signal asks for a stop. announce: is called when the first can come."""
    from aiohttp import web

    from .routes import Routes

    async def run() -> None:
        """Serve until a signal."""
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()

        def stop(signum: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(stopped.set)

        runner = web.AppRunner(
            Routes(session, guard).app(), access_log=None, handler_cancellation=True, shutdown_timeout=END_SECONDS
        )
        await runner.setup()
        with handling(stop):
            await web.SockSite(runner, listener).start()
            announce()
            await stopped.wait()
            await runner.cleanup()

    asyncio.run(run())


def _refuse_no_aiohttp() -> None:
    try:
        import aiohttp.web  # noqa: F401
    except ImportError:
        remedy = f"install it: {shipped.installing('explore')}"
        raise UserError(f"explore: aiohttp is not installed, which serves the page; {remedy}") from None


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises a UserError where the address cannot be had."""
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise UserError(f"--host: {host}: {error.strerror}; take 127.0.0.1, or an address of this machine") from None
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"--port: {port}: is used by another program; name another, or 0 for any that is free"
            ) from None
        if error.errno == errno.EACCES:
            raise UserError(f"--port: {port}: is not yours to use; name one from 1024 on, or 0") from None
        raise UserError(f"--host: {host}: {error.strerror}; take 127.0.0.1, or an address of this machine") from None


def _in_url(host: str) -> str:
    """Return the host as an address has it: one that can be opened, IPv6 in brackets."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _has_display() -> bool:
    """Whether a browser would be a window: one in the terminal would take the keys."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
