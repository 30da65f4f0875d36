"""VideoPure behind Ray Serve: the same service, the same addresses, the same schema.

    python deploy/ray_serve.py --archive model_store/videopure.mar --replicas 2 --gpus 1

Inference and the description of the model answer on one port. TorchServe's own features are
missing: scaling and metrics are Ray's (`serve status`, Ray's own metrics), and keys do not expire.
gRPC is left out. docs/deploying.md#ray-serve says more. Needs the extra `ray`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import secrets
import signal
import threading
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Any

import ray
import torch
from ray import serve
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from videopure.format.integrity import FolderFiles
from videopure.format.manifest import Manifest
from videopure.format.opening import Archive, unpacked
from videopure.handler.decoder import Decoder
from videopure.handler.description import describe
from videopure.handler.responses import Reply
from videopure.handler.torchserve import REQUIRED_SIGNATURE, load_service
from videopure.wire.operator import KEY_FILE_VARIABLE

_ADDRESSES = re.compile(
    r"/(?P<kind>predictions|explanations)/(?P<model>[^/]+)(/(?P<version>[^/]+))?"
    r"|/v1/models/(?P<v1>[^/]+):predict|/v2/models/(?P<v2>[^/]+)/infer"
)
_HEALTH = {
    "/ping": {"status": "Healthy"},
    "/v2/health/live": {"live": True},
    "/v2/health/ready": {"ready": True},
    # The key is spelt as TorchServe spells it.
    "/v2": {"name": "VideoPure in Ray Serve", "version": ray.__version__, "extenstion": ["kserve"]},
}
_SPARE = 1 << 20  # bytes of a body besides its video
_LONGEST_ID = 64  # characters of a request's id, which clients may choose


@dataclass(frozen=True)
class Asked:
    """A request in the service's form."""

    row: dict[str, Any]
    request_id: str
    explain: bool
    headers: dict[str, str]


@serve.deployment(name="videopure", max_queued_requests=100, health_check_timeout_s=300)
class VideoPure:
    """A copy of the models, and the addresses that it answers at.

    Args:
        archive: the `.mar`, or the folder of an unpacked one.
        key_file: keys in the form of TorchServe's `key_file.json`.
    """

    def __init__(self, archive: str, key_file: str) -> None:
        self._decoder = Decoder()  # first: its process loads libraries while this one does
        self._stack = ExitStack()
        root = Path(archive)
        if root.is_file():
            root = self._stack.enter_context(unpacked(root))
        config = Archive(root, FolderFiles(root)).config
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        signer = os.environ.get(REQUIRED_SIGNATURE)
        self._config, self._manifest = config, Manifest.read(root)
        self._keys = {
            name: one["key"] for name, one in json.loads(Path(key_file).read_text()).items()
        }
        self._service = load_service(
            *(root, config.videopure, device, config.responseTimeout),
            public_key=Path(signer) if signer else None,
        )
        self._service.intake.read = self._decoder.read
        self._service.warm_up()
        batching: Any = self._answer  # from serve.batch, whose types do not name what it adds
        batching.set_max_batch_size(config.batchSize)
        batching.set_batch_wait_timeout_s(config.maxBatchDelay / 1000)

    def __del__(self) -> None:
        self._stack.close()

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        path = request.url.path
        found = _ADDRESSES.fullmatch(path)
        model = re.fullmatch(r"/models(/(?P<model>[^/]+))?", path)
        if not self._admits(request, "management" if model else "inference"):
            return _error(400, "InvalidKeyException", "Token Authorization failed")
        if request.method == "GET" and path in _HEALTH:
            return JSONResponse(_HEALTH[path])
        if request.method == "GET" and model:
            return self._describe(model["model"], request.query_params.get("customized"))
        if request.method != "POST" or found is None:
            return _error(404, "ResourceNotFoundException", "Requested resource is not found")
        name = found["model"] or found["v1"] or found["v2"]
        if name != self._name or found["version"] not in (None, self._manifest.version):
            return self._no_model(name)
        try:
            row = await self._row(request)
        except MultiPartException as error:
            return _error(400, "BadRequestException", error.message)
        except _TooLargeError:
            return Response(status_code=413)
        headers = {key.lower(): value for key, value in request.headers.items()}
        # Ray's proxy gives each request an id, and sends it back as x-request-id.
        request_id = headers.get("x-request-id", "")[:_LONGEST_ID] or secrets.token_hex(16)
        asked = Asked(row, request_id, found["kind"] == "explanations", headers)
        return _response(await self._answer(asked))

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.05)
    async def _answer(self, asked: list[Asked]) -> list[Reply]:
        """A batch through the models, off the thread that accepts requests."""
        batch = await asyncio.to_thread(
            self._service.answer,
            [one.row for one in asked],
            [one.request_id for one in asked],
            [one.explain for one in asked],
            [one.headers for one in asked],
        )
        return batch.replies

    @property
    def _name(self) -> str:
        return self._manifest.name

    def _admits(self, request: Request, purpose: str) -> bool:
        sent = request.headers.get("Authorization", "")
        return compare_digest(sent.encode(), f"Bearer {self._keys[purpose]}".encode())

    async def _row(self, request: Request) -> dict[str, Any]:
        """The fields of a form, or the raw body."""
        body = await _read(request, int(1.5 * self._config.videopure.limits.max_bytes) + _SPARE)
        if not request.headers.get("Content-Type", "").startswith("multipart/form-data"):
            return {"body": bytearray(body)}
        # Fields may be as large as the body, which is bounded: a proxy may send the video as one.
        parser = MultiPartParser(request.headers, _once(body), max_part_size=len(body))
        form = await parser.parse()
        row: dict[str, Any] = {}
        for name, value in form.multi_items():
            content = await value.read() if isinstance(value, UploadFile) else value.encode()
            row[name] = bytearray(content)
        return row

    def _describe(self, model: str | None, customized: str | None) -> Response:
        """The model in TorchServe's words; its workers are Ray's replicas."""
        if model is None:
            return JSONResponse({"models": [{"modelName": self._name, "modelUrl": ""}]})
        if model != self._name:
            return self._no_model(model)
        states = serve.status().applications["videopure"].deployments["videopure"].replica_states
        workers = [
            {
                "id": str(number),
                "status": "READY" if state == "RUNNING" else str(state),
                "pid": 0,
                "gpu": torch.cuda.is_available(),
                "memoryUsage": 0,
            }
            for number, state in enumerate(s for s, count in states.items() for _ in range(count))
        ]
        told: dict[str, Any] = {
            "modelName": self._name,
            "modelVersion": self._manifest.version,
            "minWorkers": len(workers),
            "maxWorkers": len(workers),
            "batchSize": self._config.batchSize,
            "maxBatchDelay": self._config.maxBatchDelay,
            "workers": workers,
        }
        if customized == "true":
            told["customizedMetadata"] = describe(self._service, self._manifest)
        return JSONResponse([told])

    def _no_model(self, name: str) -> Response:
        return _error(404, "ModelNotFoundException", f"Model not found: {name[:100]}")


class _TooLargeError(Exception):
    """The body is larger than any that the archive's limits allow."""


async def _read(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _TooLargeError
        parts.append(part)
    return b"".join(parts)


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _error(status: int, kind: str, message: str) -> Response:
    """An error in TorchServe's shape."""
    return JSONResponse({"code": status, "type": kind, "message": message}, status)


def _response(reply: Reply) -> Response:
    return Response(reply.content(), reply.status, dict(reply.headers), reply.content_type)


def write_keys(path: Path) -> None:
    """Make keys in the form of TorchServe's file, which the client reads (mode 600)."""
    keys = {name: {"key": secrets.token_urlsafe(24)} for name in ("inference", "management")}
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(keys, file)


def main() -> None:
    """Serve an archive until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, default=Path("model_store/videopure.mar"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each replica")
    parser.add_argument("--key-file", type=Path, default=Path("key_file.json"))
    parser.add_argument("--address", help="address of a Ray cluster; without it, Ray starts here")
    chosen = parser.parse_args()
    if not chosen.archive.exists():
        parser.error(f"--archive: there is no {chosen.archive}")
    key_file = chosen.key_file.resolve()
    write_keys(key_file)
    operator = os.environ.get(KEY_FILE_VARIABLE)
    variables = {KEY_FILE_VARIABLE: operator} if operator else {}
    here: dict[str, Any] = {} if chosen.address else {"include_dashboard": False}
    # "local": without an address Ray would join the cluster that was started here last.
    ray.init(chosen.address or "local", runtime_env={"env_vars": variables}, **here)
    serve.start(http_options={"host": chosen.host, "port": chosen.port})
    replicas: Any = VideoPure  # to its types still the class that was decorated
    deployment = replicas.options(
        num_replicas=chosen.replicas, ray_actor_options={"num_gpus": chosen.gpus}
    )
    app = deployment.bind(str(chosen.archive.resolve()), str(key_file))
    serve.run(app, name="videopure", route_prefix="/")
    print(f"Ready: http://{chosen.host}:{chosen.port}", flush=True)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
