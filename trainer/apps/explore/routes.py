"""The addresses of the server. Images are PNG; the rest, errors too, is JSON: {"error": what happened, what to do}."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from torch import Tensor

from common.errors import UserError
from trainer.pictures.image_grids import picture_of, png

from . import code_file, uploads
from .fit import FitStep, fit
from .guard import HEADERS, Guard
from .latest import Check, Latest, Overtaken
from .renderer import preview_resolution
from .session import Session

log = logging.getLogger(__name__)
PAGE = Path(__file__).parent / "page"
FILES = frozenset(file.name for file in PAGE.iterdir())
FIT_REPORT_SECONDS = 0.15  # between what a page hears of a fit
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")


class Routes:
    """Answers requests. Whatever runs networks does so in one thread, one piece at a time."""

    def __init__(self, session: Session, guard: Guard) -> None:
        self._session, self._guard = session, guard
        self._thread = ThreadPoolExecutor(1)
        self._latest, self._fitting = Latest(), asyncio.Lock()

    def app(self) -> web.Application:
        """Return the application. When it ends it gives up what runs."""
        app = web.Application(middlewares=[self._guarded, _told], client_max_size=uploads.MOST_BYTES)
        app.on_shutdown.append(self._give_up)
        app.on_cleanup.append(self._end)
        app.router.add_get("/{file:[a-z_.]*}", _file)
        app.router.add_get("/api/model", self._model)
        app.router.add_get("/api/seed/{seed}", self._seed)
        app.router.add_get("/api/picture/{key}", self._picture)
        for name, handler in {
            "image": self._image,
            "preview": self._preview,
            "decoding": self._decoding,
            "picture": self._upload,
            "fit": self._fit,
            "names": self._names,
            "save": self._save,
            "load": self._load,
        }.items():
            app.router.add_post(f"/api/{name}", handler)
        return app

    async def _give_up(self, app: web.Application) -> None:
        self._latest.close()

    async def _end(self, app: web.Application) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse requests of other websites."""
        refusal = self._guard.refusal(request.headers.get("Host", ""), request.headers.get("Origin"))
        response = _error(403, refusal) if refusal else await handler(request)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _model(self, request: web.Request) -> web.Response:
        return web.json_response(self._session.description())

    async def _seed(self, request: web.Request) -> web.Response:
        text = request.match_info["seed"]
        seed = code_file.seed_or_none(int(text) if text.isascii() and text.isdigit() else text, "seed")
        assert seed is not None
        s, c = await self._run(lambda: self._session.renderer.latents.of(seed))
        return web.json_response({"s": s[0].tolist(), "c": c[0].tolist()})

    async def _image(self, request: web.Request) -> web.Response:
        return await self._drawn(request, lambda s, c, check: self._session.renderer.image(s, c, check))

    async def _preview(self, request: web.Request) -> web.Response:
        if preview_resolution(self._session.model) is None:
            raise UserError("this model makes no smaller images on the way; ask for /api/image")
        return await self._drawn(request, lambda s, c, check: self._session.renderer.preview(s, c, check))

    async def _decoding(self, request: web.Request) -> web.Response:
        if self._session.model.vae is None:
            raise UserError("this export has no VAE to decode with; ask for /api/image")
        return await self._drawn(request, lambda s, c, check: self._session.renderer.decoding(c, check))

    async def _drawn(self, request: web.Request, draw: Callable[[Tensor, Tensor, Check], bytes]) -> web.Response:
        """Answer with a PNG of the s and c of a request, unless a newer one of the same page overtakes it.

        page: who asks, and for what, any text; number: of the request, upwards. Without them nothing overtakes it.
        """
        asked = await _content(request)
        s, c = self._vectors(asked)
        page, number = asked.get("page"), asked.get("number", 0)
        if page is None:
            page, number = secrets.token_hex(), 0
        if not isinstance(page, str) or type(number) is not int:
            raise UserError("page: is text, and number a whole number; send both, or neither")
        check = self._latest.register(page, number)
        return web.Response(body=await self._run(lambda: draw(s, c, check)), content_type="image/png")

    async def _upload(self, request: web.Request) -> web.Response:
        session, data = self._session, await request.read()
        if session.model.encoder is None:
            raise UserError("this export has no encoder: it cannot read the code of a picture; take another export")
        picture = await self._run(lambda: session.read_picture(data))
        c = await self._run(lambda: session.renderer.encode(picture.pixels))
        key = session.pictures.keep(picture)
        return web.json_response({"picture": key, "c": c[0].tolist(), "remark": picture.remark})

    async def _picture(self, request: web.Request) -> web.Response:
        picture = self._session.pictures.of(request.match_info["key"])
        return web.Response(body=png(picture_of(picture.pixels[0])), content_type="image/png")

    async def _fit(self, request: web.Request) -> web.StreamResponse:
        """Answer with a line of JSON now and then, until it is done or the page closes the connection."""
        asked = await _content(request)
        picture = self._session.pictures.of(str(asked.get("picture")))
        device = self._session.renderer.device
        s, c = (latents.to(device) for latents in self._vectors(asked))
        with_c = asked.get("with_c") is True or self._session.metadata.s_dim == 0
        steps = fit(self._session.model, picture.pixels, s, c, with_c)
        async with self._fitting:
            step = await self._run(lambda: _last_of_a_while(steps, 0))
            response = web.StreamResponse(headers=HEADERS | {"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            try:
                while step is not None and not self._latest.is_closed:
                    await response.write(_line(step))
                    step = await self._run(lambda: _last_of_a_while(steps, FIT_REPORT_SECONDS))
            except UserError as error:
                await response.write(json.dumps({"error": str(error)}).encode())
        return response

    async def _names(self, request: web.Request) -> web.Response:
        asked = await _content(request)
        self._session.names.give(str(asked.get("latent")), str(asked.get("name", "")))
        return web.json_response({"names": self._session.names.names})

    async def _save(self, request: web.Request) -> web.Response:
        saved = self._session.saved(await _content(request))
        return web.Response(body=saved.to_json(), content_type="application/json")

    async def _load(self, request: web.Request) -> web.Response:
        code, remark = self._session.loaded(await request.read())
        answer: dict[str, Any] = {"s": code.s, "c": code.c, "s_seed": code.s_seed, "c_seed": code.c_seed}
        answer["names"] = self._session.names.names
        return web.json_response(answer | {"remark": remark})

    def _vectors(self, asked: dict[str, Any]) -> tuple[Tensor, Tensor]:
        s, c = (code_file.vector(asked.get(name), size, name) for name, size in self._session.sizes())
        return s, c

    async def _run(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)


@web.middleware
async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into answers that a page can show."""
    try:
        return await handler(request)
    except UserError as error:
        return _error(400, str(error))
    except Overtaken:
        return _error(409, "a newer request has taken the place of this one")
    except web.HTTPRequestEntityTooLarge:
        return _error(413, f"this file is larger than {uploads.MOST_BYTES // 2**20} MB; choose a smaller one")
    except web.HTTPException as error:
        return _error(error.status, f"{request.path}: {error.reason}")
    except ConnectionError:
        raise  # the page is gone
    except Exception:
        log.exception("%s", request.path)
        return _error(500, "the program has a fault; where it was started it says more")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


async def _file(request: web.Request) -> web.FileResponse:
    """Answer with a file of the page."""
    name = request.match_info["file"] or "index.html"
    if name not in FILES:
        raise web.HTTPNotFound
    return web.FileResponse(PAGE / name)


async def _content(request: web.Request) -> dict[str, Any]:
    """Return the JSON object that a request holds."""
    try:
        content = json.loads(await request.read())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError("the request holds no JSON object; send one")
    return content


def _last_of_a_while(steps: Iterator[FitStep], seconds: float) -> FitStep | None:
    """Take steps for about so long, at least one. Returns the last; None where all were taken before."""
    end, step = time.monotonic() + seconds, next(steps, None)
    while step is not None and time.monotonic() < end:
        after = next(steps, None)
        if after is None:
            break
        step = after
    return step


def _line(step: FitStep) -> bytes:
    found = {"step": step.step, "error": step.error, "s": step.s[0].tolist(), "c": step.c[0].tolist()}
    return (json.dumps(found) + "\n").encode()
