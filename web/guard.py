"""Who may use the page: checks before every request, and headers on every answer."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["COOKIE", "Guard", "cookie_value", "is_loopback"]

COOKIE = "videopure_page"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_CONTENT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _CONTENT,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether an address can be reached only from this machine."""
    return host.strip("[]").lower() in _LOOPBACK


def cookie_value(token: str) -> str:
    """The value that the browser keeps instead of the token, which it never stores."""
    return hmac.new(token.encode(), b"videopure page", hashlib.sha256).hexdigest()


class Guard:
    """Refuses requests that the page itself would not send, and adds security headers.

    Args:
        app: the application behind it.
        token: token that addresses below /api require; None requires none.
        local: whether the page is only for this machine. Requests under other host names are
            refused: they come from pages elsewhere that point at this machine (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, token: str | None, local: bool) -> None:
        self._app, self._token, self._local = app, token, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, sent)

    def _refusal(self, scope: Scope) -> Response | None:
        request = HTTPConnection(scope)
        host = request.headers.get("host", "")
        if self._local and not is_loopback(_name(host)):
            return _error(421, "This page answers on this machine only: open it at 127.0.0.1.")
        if scope["method"] not in ("GET", "HEAD") and not _same_origin(request.headers, host):
            return _error(403, "The request comes from another site.")
        if self._token and scope["path"].startswith("/api/") and not self._known(request):
            return _error(401, "Enter the token that `videopure web` printed when it started.")
        return None

    def _known(self, request: HTTPConnection) -> bool:
        assert self._token is not None
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        kept = request.cookies.get(COOKIE, "")
        # Both are compared, in constant time.
        by_token = hmac.compare_digest(sent.encode(), self._token.encode())
        by_cookie = hmac.compare_digest(kept.encode(), cookie_value(self._token).encode())
        return by_token or by_cookie


def _name(host: str) -> str:
    """The name or address in a Host header."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same_origin(headers: Mapping[str, str], host: str) -> bool:
    """Whether a browser sent this for our own page, or it was not a browser."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == host


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"message": message}, status)
