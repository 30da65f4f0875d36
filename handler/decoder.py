"""Decodes videos in another process, which is killed at the deadline and restarted."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from videopure.format.limits import Limits
from videopure.handler import errors
from videopure.handler.errors import InternalError, TooLargeError, UnusableVideoError
from videopure.handler.video import Clip, Sampling
from videopure.purifier import Framing
from videopure.wire.operator import KEY_FILE_VARIABLE
from videopure.wire.schemas import VideoInfo

__all__ = ["Decoder", "ReadClip"]

logger = logging.getLogger(__name__)

# Where FFmpeg lets it, a reader checks the clock itself, and gives a better error than a kill.
_GRACE = 0.5
_START_SECONDS = 120
_LONGEST_HEADER = 1 << 22
# Shared memory that is kept for the next video: to create it takes longer than to fill it.
_KEPT_BYTES = 32 << 20
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # glibc's malloc: the memory of one video's frames is kept for the next, as above.
    "MALLOC_MMAP_THRESHOLD_": str(_KEPT_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(2 * _KEPT_BYTES),
}
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from videopure.handler.decoding import main; main(int(sys.argv[1]))"
)

# Reads a video, given the file, its wanted frames, their framing, and the limits.
ReadClip = Callable[[bytes, Sampling, Framing, Limits], Clip]


class Decoder:
    """Reads videos like `read_clip`, with enforced limits on time and memory.

    Killing the process ends what no check of ours can, such as a header that takes minutes to open;
    the worker and the other videos of its batch are not affected. It reads one video at a time. It
    needs processes that can fork: not on Windows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._starter: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._reader: Connection | None = None
        self._memory = _new_memory()
        self._ready = self._idle = False
        self._start()

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            if self._control is not None:
                self._control.close()
                self._control = None
            if self._starter is not None:
                if not self._ready:  # it would continue loading
                    self._starter.kill()
                self._starter.wait()
                self._starter = None

    def __del__(self) -> None:
        self.close()

    def read(self, data: bytes, sampling: Sampling, framing: Framing, limits: Limits) -> Clip:
        """Read a video; arguments, result and errors of `read_clip`."""
        asked = {
            "sampling": asdict(sampling),
            "framing": asdict(framing),
            "limits": limits.model_dump(),
            "bytes": len(data),
        }
        request = json.dumps(asked).encode()
        with self._lock:
            reader = self._send(request, data)
            try:
                if not reader.poll(limits.max_decode_seconds + _GRACE):
                    raise TooLargeError(
                        "decoding the video takes longer than the "
                        f"{limits.max_decode_seconds:g} s allowed"
                    )
                return self._receive(reader, sampling, framing)
            except (EOFError, OSError) as error:
                raise UnusableVideoError(
                    "the video crashes the decoder, which is restarted for the next one"
                ) from error
            finally:
                if not self._idle:
                    self._drop_reader()

    def _receive(self, reader: Connection, sampling: Sampling, framing: Framing) -> Clip:
        header: dict[str, Any] = json.loads(reader.recv_bytes(_LONGEST_HEADER))
        if "error" in header:
            self._idle = True
            raise _error_of(header)
        clips = int(header["clips"])
        if not 1 <= clips <= sampling.clips:
            raise InternalError("the decoder answered with a wrong number of clips")
        frames = np.empty((clips * sampling.frames, 3, *framing.size), np.float32)
        if os.preadv(self._memory, [frames.data.cast("B")], 0) != frames.nbytes:
            raise InternalError("the decoder answered with fewer frames than it announced")
        self._idle = True
        info = VideoInfo.model_validate(header["info"])
        return Clip(torch.from_numpy(frames), info, list(map(str, header["warnings"])), clips)

    def _send(self, request: bytes, data: bytes) -> Connection:
        """Pass a video to a reader; one that ended while idle is replaced."""
        self._idle = False
        for attempt in range(2):
            reader = self._reader or self._new_reader()
            try:
                if os.fstat(self._memory).st_size > _KEPT_BYTES:
                    os.ftruncate(self._memory, _KEPT_BYTES)
                os.pwrite(self._memory, data, 0)
                reader.send_bytes(request)
                return reader
            except OSError:
                self._drop_reader()
                if attempt:
                    raise
        raise AssertionError("unreachable")

    def _new_reader(self) -> Connection:
        """Have a reader forked; if the forking process has ended, start another."""
        for attempt in range(2):
            ours, theirs = socket.socketpair()
            try:
                self._wait_until_ready()
                assert self._control is not None
                # A killed reader may still be writing: the next one gets its own memory.
                os.close(self._memory)
                self._memory = _new_memory()
                socket.send_fds(self._control, [b"+"], [theirs.fileno(), self._memory])
                self._reader = Connection(ours.detach())
                return self._reader
            except OSError:
                if attempt:
                    raise
                logger.warning("The decoding process has ended; restarting it")
                self._start()
            finally:
                theirs.close()
                ours.close()
        raise AssertionError("unreachable")

    def _drop_reader(self) -> None:
        """Drop the reader; it is killed when the next one is needed, or by its closed socket."""
        if self._reader is None:
            return
        self._reader.close()
        self._reader = None
        if self._control is not None and self._ready:
            try:  # at once, so that it stops computing
                self._new_reader()
            except (OSError, RuntimeError):
                logger.exception("No decoding process could be started; trying again later")

    def _start(self) -> None:
        """Start the process that forks readers, without waiting for it."""
        if self._control is not None:
            self._control.close()
        if self._starter is not None:
            self._starter.kill()
            self._starter.wait()
        ours, theirs = socket.socketpair()
        environment = {**os.environ, **_ENVIRONMENT}
        environment.pop(KEY_FILE_VARIABLE, None)
        flags = ["-B"] if sys.dont_write_bytecode else []
        self._starter = subprocess.Popen(
            [
                *(sys.executable, *flags, "-c", _PROGRAM),
                *(str(theirs.fileno()), json.dumps(sys.path)),
            ],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            # A worker's output must end with the worker: TorchServe waits for that.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        ours.settimeout(_START_SECONDS)
        self._control, self._ready = ours, False

    def _wait_until_ready(self) -> None:
        if self._ready:
            return
        assert self._control is not None
        told = self._control.recv(1 << 16)
        if told != b"ready":
            reason = told.decode(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(f"the process that decodes videos did not start: {reason}")
        self._ready = True


def _new_memory() -> int:
    """Descriptor of an unnamed file, in memory if the system supports that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("videopure")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _error_of(header: dict[str, Any]) -> errors.RequestError:
    """The error that a reader reported, as one of our own kinds."""
    name, message = str(header["error"]), str(header.get("message"))
    kind = getattr(errors, name, None) if name in errors.__all__ else None
    if kind is None or kind is InternalError:
        logger.error("The process that decodes failed: %s", message)
        return InternalError("the request failed inside the server; its log has the details")
    made: errors.RequestError = kind(message)
    return made
