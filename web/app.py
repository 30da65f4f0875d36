"""The page's addresses: its files, the samples, and the API under /api."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import mimetypes
import threading
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from videopure.client import ClientError, RequestFailedError
from videopure.demo import SAMPLES
from videopure.handler.errors import RequestError
from videopure.web.asking import Asker, explained
from videopure.web.guard import COOKIE, Guard, cookie_value

if TYPE_CHECKING:  # imports torch, which a page without attacks does not need
    from videopure.web.attacking import Attacked, Attacker, Knows

__all__ = ["make_app"]

logger = logging.getLogger(__name__)

_MOST_BYTES = 64 * 1024 * 1024  # if the server does not say
_UPLOAD_SECONDS = 120.0
_TOGETHER = 4  # requests whose videos are in memory at a time
_MOST_EPSILON, _MOST_STEPS = 32.0, 200
_VIDEO = "application/octet-stream"


class _StoppedError(Exception):
    """The client that asked for the attack has gone."""


class Page:
    """Answers the requests.

    Args:
        asker: asks the served model.
        attacker: attacks clips; None if the page was started without an archive.
        token: as for `Guard`.
    """

    def __init__(self, asker: Asker, attacker: Attacker | None, token: str | None) -> None:
        self._asker, self._attacker, self._token = asker, attacker, token
        self._room = asyncio.Semaphore(_TOGETHER)
        self._samples = {path.stem: path for path in sorted(SAMPLES.glob("*.mp4"), key=_pair)}
        folder = resources.files("videopure.web") / "static"
        self._files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    async def file(self, request: Request) -> Response:
        """A file of the page."""
        name = request.path_params.get("name", "index.html")
        if name not in self._files:
            raise HTTPException(404, "There is nothing at this address.")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(self._files[name], media_type=kind)

    async def login(self, request: Request) -> Response:
        """Let the browser remember that it knows the token, which `Guard` has checked."""
        answer = Response(status_code=204)
        if self._token:
            answer.set_cookie(
                COOKIE,
                cookie_value(self._token),
                httponly=True,
                samesite="strict",
                secure=request.url.scheme == "https",
            )
        return answer

    async def about(self, request: Request) -> Response:
        """The model, the samples, and whether clips can be attacked."""
        if "again" in request.query_params:
            self._asker.forget()
        about = await run_sync(self._asker.about)
        attack = {"possible": False, "why": "Start the page with --archive to attack clips."}
        if self._attacker is not None:
            described = None if about["model"] is None else self._asker.description()
            why = self._attacker.refusal(described)
            attack = {"possible": why is None, "why": why}
        return JSONResponse({**about, "samples": [*self._samples], "attack": attack})

    async def sample(self, request: Request) -> Response:
        """A sample clip."""
        path = self._samples.get(request.path_params["name"])
        if path is None:
            raise HTTPException(404, "There is no such sample.")
        return Response(path.read_bytes(), media_type="video/mp4")

    async def ask(self, request: Request) -> Response:
        """The report on the clip in the body."""
        options = _options(request)
        async with self._room:
            video = await self._video(request)
            report = await run_sync(self._asker.ask, video, options)
        return JSONResponse(report.as_json())

    async def attack(self, request: Request) -> Response:
        """The clip in the body after an attack: lines of JSON, steps first and the clip last."""
        if self._attacker is None:
            raise HTTPException(403, "Start the page with --archive to attack clips.")
        epsilon = _number(request, "epsilon", 0.25, _MOST_EPSILON)
        steps = int(_number(request, "steps", 1, _MOST_STEPS))
        knows = _knows(request)
        async with self._room:
            video = await self._video(request)
        run = partial(self._attacker.attack, video, epsilon=epsilon, steps=steps, knows=knows)
        return StreamingResponse(_progress(run, steps), media_type="application/x-ndjson")

    async def _video(self, request: Request) -> bytes:
        """The body, up to its allowed length."""
        if request.headers.get("content-type") != _VIDEO:
            raise HTTPException(415, f"Send the video as {_VIDEO}.")
        most, parts, size = self._asker.max_bytes or _MOST_BYTES, [], 0
        try:
            with anyio.fail_after(_UPLOAD_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise HTTPException(
                            413, f"The video has more than the {most / 2**20:.0f} MB allowed."
                        )
                    parts.append(part)
        except TimeoutError:
            raise HTTPException(408, "The upload took too long.") from None
        if not size:
            raise HTTPException(422, "The file is empty.")
        return b"".join(parts)


async def _progress(run: Callable[..., Attacked], steps: int) -> AsyncGenerator[bytes]:
    """Lines of JSON while an attack runs in a thread; it stops when nobody reads them."""
    lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    loop, gone = asyncio.get_running_loop(), threading.Event()

    def tell(line: dict[str, Any] | None) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it the reader
            loop.call_soon_threadsafe(lines.put_nowait, line)

    def on_step(done: int) -> None:
        if gone.is_set():
            raise _StoppedError
        tell({"step": done, "of": steps})

    def work() -> None:
        try:
            made = run(on_step=on_step)
            tell({**asdict(made), "video": b64encode(made.video).decode()})
        except _StoppedError:
            pass
        except RequestError as error:
            tell({"message": _sentence(str(error))})
        except Exception:
            logger.exception("The attack failed")
            tell({"message": "The attack failed; the page's log has the reason."})
        finally:
            tell(None)

    threading.Thread(target=work, daemon=True, name="attack").start()
    try:
        while (line := await lines.get()) is not None:
            yield json.dumps(line).encode() + b"\n"
    finally:
        gone.set()


def _options(request: Request) -> dict[str, Any]:
    """The options of the query, as the server takes them; it checks their values."""
    known = ("method", "inversion_steps", "clips", "seed")
    unknown = request.query_params.keys() - {*known}
    if unknown:
        raise HTTPException(400, f"There is no option {min(unknown)[:40]!r}.")
    return dict(request.query_params)


def _number(request: Request, name: str, least: float, most: float) -> float:
    text = request.query_params.get(name, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise HTTPException(400, f"{name!r} must be {least:g} to {most:g}, got {text[:40]!r}.")
    return value


def _knows(request: Request) -> Knows:
    match request.query_params.get("knows", "recogniser"):
        case "recogniser":
            return "recogniser"
        case "everything":
            return "everything"
        case other:
            raise HTTPException(
                400, f"'knows' must be recogniser or everything, got {other[:40]!r}."
            )


def _pair(sample: Path) -> tuple[str, bool]:
    """Sorts a clean sample before the attacked one of the same clip."""
    clip, _, kind = sample.stem.rpartition("-")
    return clip, kind == "attacked"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def make_app(
    asker: Asker, attacker: Attacker | None = None, *, token: str | None = None, local: bool = True
) -> Starlette:
    """The page as an ASGI application.

    Args:
        asker: asks the served model.
        attacker: attacks clips; None offers no attack.
        token, local: as for `Guard`.
    """
    page = Page(asker, attacker, token)

    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, ClientError)
        status = error.status if isinstance(error, RequestFailedError) else 502
        return JSONResponse({"message": _sentence(explained(error, asker.client.model))}, status)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"message": error.detail}, error.status_code)

    async def left(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        if attacker is not None:
            attacker.close()

    return Starlette(
        routes=[
            Route("/", page.file),
            Route("/static/{name}", page.file),
            Route("/api/login", page.login, methods=["POST"]),
            Route("/api/about", page.about),
            Route("/api/samples/{name}", page.sample),
            Route("/api/ask", page.ask, methods=["POST"]),
            Route("/api/attack", page.attack, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, token=token, local=local)],
        exception_handlers={ClientError: failed, HTTPException: refused, ClientDisconnect: left},
        lifespan=lifespan,
    )
