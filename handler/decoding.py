"""The process that decodes clients' videos, so that no video can block or crash the worker.

`Decoder` in `videopure.handler.decoder` starts it as `main`, which loads the decoding libraries
once and then forks readers on request: a killed reader is replaced within milliseconds. Requests
and answers are JSON; videos and frames are plain bytes in shared memory. It imports no model code.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import socket
import traceback
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["main"]

# CPU seconds per second of the clock: the worker's clock ends a reader, except one whose worker is
# gone.
_THREADS = 2
_SPARE_SECONDS = 5


def main(descriptor: int) -> None:
    """Fork a reader for each pair of socket and memory that arrives; end when no more can arrive.

    Args:
        descriptor: descriptor of the socket that they arrive on.
    """
    control = socket.socket(fileno=descriptor)
    try:
        _load()
    except BaseException:
        control.sendall(traceback.format_exc().encode())
        raise
    control.sendall(b"ready")
    reader = 0
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if reader:
            os.kill(reader, signal.SIGKILL)
            os.waitpid(reader, 0)
        if not message:
            return
        reader = os.fork()
        if reader == 0:
            control.close()
            _serve(Connection(descriptors[0]), descriptors[1])
            os._exit(0)
        for each in descriptors:
            os.close(each)


def _load() -> None:
    import torch

    import videopure.handler.video  # noqa: F401  before the fork

    # A forked process must not wait for threads that it does not have.
    torch.set_num_threads(1)


def _serve(worker: Connection, memory: int) -> None:
    """Read one video after another.

    Args:
        worker: socket for requests and answers, in JSON.
        memory: a file in memory that both processes share: the video goes in, frames come out.
    """
    while True:
        try:
            asked = json.loads(worker.recv_bytes())
        except EOFError:
            return
        header, frames = _read(asked, os.pread(memory, asked["bytes"], 0))
        if frames is not None:
            os.pwrite(memory, frames, 0)
        worker.send_bytes(json.dumps(header).encode())


def _read(asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], Any]:
    """The answer about a video, and the bytes of its frames: float32 [T, 3, H, W]."""
    from videopure.format.limits import Limits
    from videopure.handler.errors import RequestError
    from videopure.handler.video import Sampling, read_clip
    from videopure.purifier.clip import Framing

    limits = Limits(**asked["limits"])
    _bound_cpu(limits.max_decode_seconds)
    try:
        framing: dict[str, Any] = {
            n: tuple(v) if isinstance(v, list) else v for n, v in asked["framing"].items()
        }
        clip = read_clip(data, Sampling(**asked["sampling"]), Framing(**framing), limits)
    except RequestError as error:
        return {"error": type(error).__name__, "message": str(error)[:4000]}, None
    except Exception:
        return {"error": "InternalError", "message": traceback.format_exc()[-4000:]}, None
    told = {"info": clip.info.model_dump(), "warnings": clip.warnings, "clips": clip.clips}
    return told, clip.frames.contiguous().numpy().data.cast("B")


def _bound_cpu(seconds: float) -> None:
    """Let the kernel end this process when it computes for much longer than allowed."""
    spent = sum(os.times()[:2])
    most = math.ceil(spent + _THREADS * seconds + _SPARE_SECONDS)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (most, hard))
