"""Requests to a TorchServe: kept connections, keys, and errors that say what happened."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ProxyError, SSLError
from urllib3.exceptions import NewConnectionError
from urllib3.util.retry import Retry

from videopure.client.errors import (
    ConnectionLostError,
    KeyFileError,
    ModelNotFoundError,
    NotTorchServeError,
    QueueFullError,
    RequestFailedError,
    ServerUnreachableError,
)

__all__ = ["Connection", "Purpose"]

Purpose = Literal["inference", "management"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CONNECT_SECONDS = 5.0
_CONNECTIONS = 32
_POLL_SECONDS = 0.1
# TorchServe's own 503 for a full queue; a worker's failure has another type.
_QUEUE_FULL = "ServiceUnavailableException"
# TorchServe's 500 to who asks for the workers in the moment in which one comes or goes.
_SCALING = "ConcurrentModificationException"
_SCALING_SECONDS = 5.0
_NO_MODEL = "ModelNotFoundException"
_BAD_KEY = "InvalidKeyException"
# Every renewal makes the key before it invalid: clients that renew at the same time meet again.
_RENEWALS = 5
# TorchServe writes its key file in place: for a moment it is empty or cut short.
_KEY_FILE_SECONDS = 1.0


class Connection:
    """Sends requests with the key of their purpose; may be shared by threads.

    What is repeated: a GET whose connection broke, and any request that was refused before it was
    computed: no connection, a full queue, an expired key. A prediction that may have been computed
    is never sent twice.

    Args:
        management_url: where keys are renewed.
        key_file: TorchServe's `key_file.json`; where it is missing, no key is sent.
        timeout: seconds to wait for an answer.
        queue_wait: seconds to go on trying while the server's queue is full.
        headers: sent with every request; an `Authorization` takes the place of TorchServe's key.
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
        self._renewing = threading.Lock()
        # A proxy of the environment is not meant for this machine's own server.
        self._own, self._others = _session(trust_env=False), _session(trust_env=True)

    def close(self) -> None:
        """Close the connections."""
        self._own.close()
        self._others.close()

    def send(
        self,
        method: str,
        url: str,
        purpose: Purpose | None,
        headers: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> requests.Response:
        """A good answer; an expired key is renewed.

        Args:
            method, url, headers, kwargs: as of `requests`.
            purpose: whose key to send; None for addresses that ask for none.

        Raises:
            ClientError: of the kind that says what happened.
        """
        start = time.monotonic()
        renewals = 0
        while True:
            key = self._key(purpose)
            authorization = {"Authorization": f"Bearer {key}"} if key else {}
            sent = {**authorization, **self.headers, **(headers or {})}
            answer = self._request(method, url, headers=sent, **kwargs)
            if answer.is_redirect or 300 <= answer.status_code < 400:
                target = answer.headers.get("Location", "nowhere")[:200]
                raise NotTorchServeError(
                    f"{url} redirects to {target}: nothing was sent there, as keys and videos are "
                    "for the address that was asked alone"
                )
            if answer.ok:
                return answer
            error = _error_of(answer)
            if error.type == _BAD_KEY and purpose and not self._keyless:
                renewals += 1
                if renewals <= _RENEWALS and self._renew(purpose, key):
                    continue
                raise error if key else self._no_key(url)
            patience = 0.0
            if isinstance(error, QueueFullError):
                patience = self.queue_wait
            elif method == "GET" and error.type == _SCALING:
                patience = _SCALING_SECONDS  # a moment later the list of workers holds still
            if time.monotonic() >= start + patience:
                raise error
            time.sleep(_POLL_SECONDS)

    def json(self, method: str, url: str, purpose: Purpose, **kwargs: Any) -> Any:
        """The JSON of a good answer; see `send`."""
        answer = self.send(method, url, purpose, **kwargs)
        try:
            return answer.json()
        except requests.JSONDecodeError as error:
            raise not_torchserve(answer) from error

    def _request(self, method: str, url: str, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", (min(_CONNECT_SECONDS, self.timeout), self.timeout))
        # TorchServe sends none; whoever does would get the keys and the video somewhere else.
        kwargs["allow_redirects"] = False
        session = self._own if urlsplit(url).hostname in _LOOPBACK else self._others
        try:
            return session.request(method, url, **kwargs)
        except requests.ReadTimeout as error:
            raise ConnectionLostError(
                f"the server at {url} did not answer in {self.timeout:g} s"
            ) from error
        except requests.RequestException as error:
            reason = type(error).__name__  # its text is the inside of urllib3
            if _was_connected(error):
                raise ConnectionLostError(
                    f"the connection to {url} broke before the answer came ({reason})"
                ) from error
            raise ServerUnreachableError(f"no server answers at {url} ({reason})") from error

    def _renew(self, purpose: Purpose, used: str | None) -> bool:
        """Have another key in the key file than the one that was used; False if there is none."""
        with self._renewing:
            if self._key(purpose) != used:
                return True  # another thread or process was quicker
            key = self._keys().get("API", {}).get("key")
            if key is None:
                return False
            answer = self._request(
                "GET",
                f"{self.management_url}/token",
                params={"type": purpose},
                headers={"Authorization": f"Bearer {key}"},
            )
            return answer.ok and not answer.is_redirect

    def _key(self, purpose: Purpose | None) -> str | None:
        if purpose is None or self._keyless:
            return None
        return self._keys().get(purpose, {}).get("key")

    def _keys(self) -> dict[str, dict[str, str]]:
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
            time.sleep(_POLL_SECONDS)
        return {}

    def _no_key(self, url: str) -> KeyFileError:
        return KeyFileError(
            f"the server at {url} asks for a key, and there is no key file {self.key_file}: "
            "TorchServe writes key_file.json into the folder it was started in; say where that is"
        )


def _session(*, trust_env: bool) -> requests.Session:
    """Connections that are kept and shared; `trust_env` is of `requests`."""
    session = requests.Session()
    session.trust_env = trust_env
    session.auth = _as_it_is
    # A 503 with Retry-After is an answer, which says more than that trying again was in vain.
    retry = Retry(
        total=2,
        status=0,
        allowed_methods={"GET"},
        backoff_factor=0.1,
        respect_retry_after_header=False,
    )
    adapter = HTTPAdapter(max_retries=retry, pool_maxsize=_CONNECTIONS)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No authentication but our own: a .netrc of the environment would replace the key."""
    return request


def not_torchserve(answer: requests.Response) -> NotTorchServeError:
    """The error for an answer that is no TorchServe's, or no VideoPure's."""
    what = answer.headers.get("Content-Type", "no content type")
    return NotTorchServeError(f"{answer.url} does not answer like VideoPure in TorchServe ({what})")


def _was_connected(error: requests.RequestException) -> bool:
    """Whether something may have been sent before it failed."""
    if isinstance(error, requests.ConnectTimeout | ProxyError | SSLError):
        return False
    # requests wraps all others of urllib3 in a ConnectionError.
    cause = error.args[0] if error.args else None
    return not isinstance(getattr(cause, "reason", None), NewConnectionError)


def _error_of(answer: requests.Response) -> RequestFailedError:
    body = _body_of(answer)
    kind = str(body.get("type") or answer.reason or "Error")
    message = str(body.get("message") or answer.text[:200] or "no message")
    request_id = body.get("request_id") or answer.headers.get("x-request-id")
    raised = RequestFailedError
    if answer.status_code == 503 and kind == _QUEUE_FULL:
        raised = QueueFullError
    elif answer.status_code == 404 and kind == _NO_MODEL:
        raised = ModelNotFoundError
    return raised(answer.status_code, kind, message, request_id)


def _body_of(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
