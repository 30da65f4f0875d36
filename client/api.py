"""A client for a VideoPure model behind TorchServe."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import requests

__all__ = [
    "ClientError",
    "KeyFileError",
    "RequestFailedError",
    "ServerUnreachableError",
    "VideoPureClient",
]

_KEY_FILE = "key_file.json"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLL_SECONDS = 0.2


class ClientError(Exception):
    """Anything that the client raises."""


class ServerUnreachableError(ClientError):
    """No server answered at the address."""


class KeyFileError(ClientError):
    """The server's key file cannot be read, or is just being written."""


class RequestFailedError(ClientError):
    """The server answered with an error.

    Args:
        status: HTTP status.
        type: the server's name for the error.
        message: what is wrong.
    """

    def __init__(self, status: int, type: str, message: str) -> None:
        super().__init__(f"{status} {type}: {message}")
        self.status = status
        self.type = type
        self.message = message


class VideoPureClient:
    """Asks a running server; keeps its connections open and renews its keys.

    Args:
        inference_url, management_url: where TorchServe listens.
        model: the model's name.
        key_file: the `key_file.json` that TorchServe writes into the folder it was started in;
            a missing file means that the server asks for no key.
        timeout: seconds to wait for an answer.
    """

    def __init__(
        self,
        inference_url: str = "http://127.0.0.1:8080",
        management_url: str = "http://127.0.0.1:8081",
        *,
        model: str = "videopure",
        key_file: str | Path = _KEY_FILE,
        timeout: float = 120.0,
    ) -> None:
        self.inference_url = inference_url.rstrip("/")
        self.management_url = management_url.rstrip("/")
        self.model = model
        self.key_file = Path(key_file)
        self.timeout = timeout
        self._session = requests.Session()
        # A proxy or a .netrc of the environment is not meant for this machine's own server, and
        # the latter would replace the key.
        self._session.trust_env = urlsplit(self.inference_url).hostname not in _LOOPBACK

    def __enter__(self) -> VideoPureClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def predict(self, video: str | Path | bytes, **options: Any) -> dict[str, Any]:
        """The server's answer to a video.

        Args:
            video: a file, or its bytes.
            options: `top_k`, `inversion_steps`, `votes`, `seed`, `method`, `purify`.

        Raises:
            RequestFailedError: with the server's status and message.
            ServerUnreachableError: if there is no server.
        """
        data = video if isinstance(video, bytes) else Path(video).read_bytes()
        url = f"{self.inference_url}/predictions/{self.model}"
        if options:
            fields = {
                name: json.dumps(v) if isinstance(v, bool) else v for name, v in options.items()
            }
            answer = self._send("POST", url, "inference", files={"video": data}, data=fields)
        else:
            headers = {"Content-Type": "application/octet-stream"}
            answer = self._send("POST", url, "inference", data=data, headers=headers)
        result: dict[str, Any] = _json_of(answer)
        return result

    def describe(self) -> dict[str, Any]:
        """What TorchServe says of the model and its workers."""
        url = f"{self.management_url}/models/{self.model}"
        result: list[dict[str, Any]] = _json_of(self._send("GET", url, "management"))
        return result[0]

    def wait_until_ready(self, timeout: float = 300.0) -> None:
        """Wait until the model has workers and all of them can answer.

        Raises:
            ServerUnreachableError: if that takes longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self.all_ready():
            if time.monotonic() > deadline:
                raise ServerUnreachableError(
                    f"the workers of {self.model!r} at {self.management_url} were not ready "
                    f"after {timeout:g} s"
                )
            time.sleep(_POLL_SECONDS)

    def all_ready(self) -> bool:
        """Whether the model has workers and all of them can answer."""
        try:
            workers = self.describe()["workers"]
        except ClientError:
            return False  # not listening yet, or its key file is being written
        return bool(workers) and all(worker["status"] == "READY" for worker in workers)

    def ready_workers(self) -> int:
        """Workers that can answer. (`/ping` says Healthy even while none can.)"""
        return sum(worker["status"] == "READY" for worker in self.describe()["workers"])

    def _send(
        self,
        method: str,
        url: str,
        purpose: str,
        headers: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> requests.Response:
        """Send with the purpose's key; an expired key is renewed once."""
        answer = self._attempt(method, url, purpose, headers, **kwargs)
        if _type_of(answer) == "InvalidKeyException" and self._renew(purpose):
            answer = self._attempt(method, url, purpose, headers, **kwargs)
        if answer.status_code >= 400:
            raise RequestFailedError(
                answer.status_code,
                _type_of(answer) or answer.reason or "Error",
                _message_of(answer),
            )
        return answer

    def _attempt(
        self, method: str, url: str, purpose: str, headers: dict[str, str] | None, **kwargs: Any
    ) -> requests.Response:
        key = self._keys().get(purpose, {}).get("key")
        authorization = {"Authorization": f"Bearer {key}"} if key else {}
        headers = {**authorization, **(headers or {})}
        return self._request(method, url, headers=headers, **kwargs)

    def _request(self, method: str, url: str, **kwargs: Any) -> requests.Response:
        try:
            return self._session.request(method, url, timeout=self.timeout, **kwargs)
        except requests.ReadTimeout as error:
            raise ServerUnreachableError(
                f"the server at {url} did not answer in {self.timeout:g} s"
            ) from error
        except requests.RequestException as error:
            reason = type(error).__name__  # its text is the inside of urllib3
            raise ServerUnreachableError(f"no server answers at {url} ({reason})") from error

    def _renew(self, purpose: str) -> bool:
        """Have the server write a new key into the key file; False without a key file."""
        key = self._keys().get("API", {}).get("key")
        if key is None:
            return False
        answer = self._request(
            "GET",
            f"{self.management_url}/token",
            params={"type": purpose},
            headers={"Authorization": f"Bearer {key}"},
        )
        return answer.ok

    def _keys(self) -> dict[str, dict[str, str]]:
        if not self.key_file.is_file():
            return {}
        try:
            keys: dict[str, dict[str, str]] = json.loads(self.key_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise KeyFileError(f"the key file {self.key_file} cannot be read: {error}") from error
        return keys


def _json_of(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except requests.JSONDecodeError as error:
        what = answer.headers.get("Content-Type", "no content type")
        raise RequestFailedError(
            answer.status_code, "NoJson", f"{answer.url} does not answer like TorchServe ({what})"
        ) from error


def _body_of(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _type_of(answer: requests.Response) -> str | None:
    return None if answer.ok else _body_of(answer).get("type")


def _message_of(answer: requests.Response) -> str:
    return str(_body_of(answer).get("message") or answer.text[:200] or "no message")
