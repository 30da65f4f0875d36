"""Requests to a TorchServe: keys, retries, and errors that say what happened."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import httpx

from videopure.client.errors import (
    ConnectionLostError,
    KeyFileError,
    ModelNotFoundError,
    NotTorchServeError,
    QueueFullError,
    RequestFailedError,
    ServerUnreachableError,
)
from videopure.client.steps import Alone, Send, Steps, Wait

__all__ = ["Connection", "Purpose", "not_torchserve"]

Purpose = Literal["inference", "management"]

_POLL_SECONDS = 0.1
# A GET whose connection broke is sent again this often: asking twice does no harm.
_REPEATS = 2
# TorchServe's own 503 for a full queue; a worker's failure has another type.
_QUEUE_FULL = "ServiceUnavailableException"
# TorchServe's 500 to a request for the workers at the moment when one starts or ends.
_SCALING = "ConcurrentModificationException"
_SCALING_SECONDS = 5.0
_NO_MODEL = "ModelNotFoundException"
_BAD_KEY = "InvalidKeyException"
# Every renewal makes the previous key invalid: clients that renew at the same time collide.
_RENEWALS = 5
# A proxy that sends its own key may learn of a renewed one a moment later.
_PROXY_SECONDS = 2.0
# TorchServe writes its key file in place: for a moment it is empty or cut short.
_KEY_FILE_SECONDS = 1.0
# Nothing was sent when these are raised.
_NOT_CONNECTED = (
    *(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError),
    *(httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL),
)


class Connection:
    """The steps of a request with the key of its purpose.

    It repeats a GET whose connection broke, and any request that was refused before it was
    computed: no connection, a full queue, an expired key. A prediction that may have been computed
    is never sent twice.

    Args:
        management_url: where keys are renewed.
        key_file: TorchServe's `key_file.json`; if it is missing, no key is sent.
        timeout: seconds to wait for an answer.
        queue_wait: seconds to keep trying while the server's queue is full.
        headers: sent with every request; an `Authorization` replaces TorchServe's key.
    """

    def __init__(
        self,
        management_url: str,
        key_file: Path,
        timeout: float,
        queue_wait: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.management_url = management_url
        self.key_file = key_file
        self.timeout = timeout
        self.queue_wait = queue_wait
        self.headers = dict(headers or {})
        self._keyless = any(name.lower() == "authorization" for name in self.headers)

    def send(
        self,
        method: str,
        url: str,
        purpose: Purpose | None,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> Steps[httpx.Response]:
        """A good answer; an expired key is renewed.

        Args:
            method, url, headers, body: as for `Send`.
            purpose: purpose of the key to send; None for addresses that need none.

        Raises:
            ClientError: of the kind that fits the failure.
        """
        start = time.monotonic()
        renewals = 0
        while True:
            key = yield from self._key(purpose)
            authorization = {"Authorization": f"Bearer {key}"} if key else {}
            sent = {**authorization, **self.headers, **(headers or {})}
            answer = yield from self._request(Send(method, url, sent, self.timeout, body))
            if 300 <= answer.status_code < 400:
                raise _redirected(answer)
            if answer.is_success:
                return answer
            error = _error_of(answer)
            if error.type == _BAD_KEY and purpose and not self._keyless:
                renewals += 1
                if renewals <= _RENEWALS and (yield Alone(self._renew(purpose, key))):
                    continue
                raise error if key else self._no_key(url)
            if time.monotonic() >= start + self._patience(method, error):
                raise error
            yield Wait(_POLL_SECONDS)

    def json(self, method: str, url: str, purpose: Purpose, **body: Any) -> Steps[Any]:
        """The JSON of a good answer; see `send`."""
        answer = yield from self.send(method, url, purpose, **body)
        try:
            return answer.json()
        except ValueError as error:
            raise not_torchserve(answer) from error

    def renew(self, purpose: Purpose) -> Steps[str]:
        """Have TorchServe make a new key, and return it; the previous one becomes invalid.

        Raises:
            KeyFileError: if there is no key file, or its API key is refused.
            ClientError: as for `send`.
        """
        used = yield from self._key(purpose)
        renewed = yield Alone(self._renew(purpose, used))
        key = yield from self._key(purpose)
        if not renewed or key is None:
            raise KeyFileError(
                f"no key could be renewed at {self.management_url} with {self.key_file}"
            )
        return key

    def _patience(self, method: str, error: RequestFailedError) -> float:
        """Seconds for which a request with this refusal is repeated."""
        if isinstance(error, QueueFullError):
            return self.queue_wait
        if error.type == _BAD_KEY and self._keyless:
            return _PROXY_SECONDS
        # A moment later the list of workers is stable.
        return _SCALING_SECONDS if method == "GET" and error.type == _SCALING else 0.0

    def _request(self, request: Send) -> Steps[httpx.Response]:
        for repeats_left in reversed(range(1 + (_REPEATS if request.method == "GET" else 0))):
            try:
                answer: httpx.Response = yield request
                return answer
            except httpx.ReadTimeout as error:
                raise ConnectionLostError(
                    f"the server at {request.url} did not answer in {request.timeout:g} s"
                ) from error
            except _NOT_CONNECTED as error:
                raise ServerUnreachableError(
                    f"no server answers at {request.url} ({type(error).__name__})"
                ) from error
            except httpx.HTTPError as error:
                if not repeats_left:
                    raise ConnectionLostError(
                        f"the connection to {request.url} broke before the answer came "
                        f"({type(error).__name__})"
                    ) from error
            yield Wait(_POLL_SECONDS)
        raise AssertionError("the last repeat returns or raises")

    def _renew(self, purpose: Purpose, used: str | None) -> Steps[bool]:
        """Get a key other than the used one into the key file; False if there is none."""
        if (yield from self._key(purpose)) != used:
            return True  # another call or process was quicker
        keys = yield from self._keys()
        if (key := keys.get("API", {}).get("key")) is None:
            return False
        url = f"{self.management_url}/token"
        headers = {"Authorization": f"Bearer {key}"}
        body = {"params": {"type": purpose}}
        answer = yield from self._request(Send("GET", url, headers, self.timeout, body))
        return answer.is_success

    def _key(self, purpose: Purpose | None) -> Steps[str | None]:
        if purpose is None or self._keyless:
            return None
        keys = yield from self._keys()
        return keys.get(purpose, {}).get("key")

    def _keys(self) -> Steps[dict[str, dict[str, str]]]:
        deadline = time.monotonic() + _KEY_FILE_SECONDS
        while self.key_file.is_file():
            try:
                keys: dict[str, dict[str, str]] = json.loads(
                    self.key_file.read_text(encoding="utf-8")
                )
                return keys
            except (OSError, ValueError) as error:
                if isinstance(error, PermissionError) or time.monotonic() > deadline:
                    raise KeyFileError(
                        f"the key file {self.key_file} cannot be read: {error}"
                    ) from error
            yield Wait(_POLL_SECONDS)
        return {}

    def _no_key(self, url: str) -> KeyFileError:
        return KeyFileError(
            f"the server at {url} asks for a key, and there is no key file {self.key_file}: "
            "TorchServe writes key_file.json into the folder it was started in; say where that is"
        )


def not_torchserve(answer: httpx.Response) -> NotTorchServeError:
    """The error for an answer that is not from TorchServe, or not from VideoPure."""
    what = answer.headers.get("Content-Type", "no content type")
    return NotTorchServeError(f"{answer.url} does not answer like VideoPure in TorchServe ({what})")


def _redirected(answer: httpx.Response) -> NotTorchServeError:
    target = answer.headers.get("Location", "nowhere")[:200]
    return NotTorchServeError(
        f"{answer.url} redirects to {target}: nothing was sent there, as keys and videos are only "
        "for the requested address"
    )


def _error_of(answer: httpx.Response) -> RequestFailedError:
    body = _body_of(answer)
    kind = str(body.get("type") or answer.reason_phrase or "Error")
    message = str(body.get("message") or answer.text[:200] or "no message")
    request_id = body.get("request_id") or answer.headers.get("x-request-id")
    raised = RequestFailedError
    if answer.status_code == 503 and kind == _QUEUE_FULL:
        raised = QueueFullError
    elif answer.status_code == 404 and kind == _NO_MODEL:
        raised = ModelNotFoundError
    return raised(answer.status_code, kind, message, request_id)


def _body_of(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
