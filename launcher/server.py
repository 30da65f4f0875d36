"""A TorchServe process that serves one archive: start, wait until ready, stop."""

from __future__ import annotations

import importlib.resources
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from videopure.client.api import VideoPureClient
from videopure.client.errors import ClientError
from videopure.launcher.java import java_home
from videopure.launcher.ports import taken_address
from videopure.launcher.properties import read_properties
from videopure.wire.operator import KEY_FILE_VARIABLE, OPERATOR_KEY_FILE

__all__ = ["ServerError", "TorchServe"]

_POLL_SECONDS = 0.2
_STOP_SECONDS = 20
# A worker that fails to load is restarted again and again; this many times is not chance.
_FAILED_LOADS = 2


class ServerError(ClientError):
    """The server did not start; the message holds the log's reason."""


class TorchServe:
    """Runs TorchServe in the background; a context manager that always stops it.

    Args:
        archive: the `.mar` to serve, or the folder of an unpacked one.
        folder: where the server runs: it writes `key_file.json` and `logs/` there.
        config: properties file; by default `config.properties` in `folder`, or the packaged one.
        overrides: properties that replace the file's, such as addresses.
        workers: workers of the model; by default as the archive says.
        timeout: seconds to wait for ready workers.
        environment: variables of the server and its workers, besides those of this process.

    The server gets an operator's key, which is in `folder` while it runs (mode 600), unless
    `VIDEOPURE_OPERATOR_KEY_FILE` already names one.
    """

    def __init__(
        self,
        archive: str | Path,
        *,
        folder: str | Path = ".",
        config: str | Path | None = None,
        overrides: Mapping[str, str] | None = None,
        workers: int | None = None,
        timeout: float = 300.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.archive = Path(archive).resolve()
        self.folder = Path(folder).resolve()
        self.config = Path(config).resolve() if config else None
        self.overrides = dict(overrides or {})
        self.workers = workers
        self.timeout = timeout
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._properties: dict[str, str] = {}

    def __enter__(self) -> TorchServe:
        try:
            self.start()
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def model(self) -> str:
        """The model's name: the archive's file name without its ending."""
        return self.archive.stem

    @property
    def is_open(self) -> bool:
        """Whether other machines can ask it."""
        url = self._properties.get("inference_address", "")
        return bool(url) and (urlsplit(url).hostname or "") not in ("127.0.0.1", "localhost")

    @property
    def log_file(self) -> Path:
        """The output of the server and its workers."""
        return self.folder / "logs" / "videopure-serve.log"

    @property
    def operator_key_file(self) -> Path:
        """The file of the operator's key."""
        chosen = self.environment.get(KEY_FILE_VARIABLE) or os.environ.get(KEY_FILE_VARIABLE)
        return Path(chosen).resolve() if chosen else self.folder / OPERATOR_KEY_FILE

    def client(self, timeout: float = 120.0) -> VideoPureClient:
        """A client of this server, with the operator's key."""
        url = self._properties.get("inference_address", "http://127.0.0.1:8080")
        return VideoPureClient(
            url.replace("//0.0.0.0", "//127.0.0.1"),  # which every address of the machine includes
            self._properties.get("management_address", "http://127.0.0.1:8081"),
            self._properties.get("metrics_address", "http://127.0.0.1:8082"),
            model=self.model,
            key_file=self.folder / "key_file.json",
            operator_key_file=self.operator_key_file,
            timeout=timeout,
        )

    def start(self) -> None:
        """Start the process; it is not ready yet.

        Raises:
            ServerError: if there is no archive, or another process has one of the addresses.
            JavaNotFoundError: if there is no Java.
        """
        if not self.archive.exists():
            raise ServerError(
                f"there is no archive {self.archive}: build it with `videopure build`"
            )
        home = java_home()
        # TorchServe keeps its pid file in the temporary folder: with separate folders, several
        # servers can run side by side and an orphaned pid file affects none of them.
        self._scratch = tempfile.TemporaryDirectory(prefix="videopure-serve-")
        scratch = Path(self._scratch.name)
        config_file = self._write_config(scratch / "config.properties")
        # Checked before TorchServe overwrites the other server's key file and log, and before its
        # answers could pass for our own.
        if taken := taken_address(self._properties):
            raise ServerError(
                f"another process listens on {taken}: stop it, or change the addresses in "
                "config.properties"
            )
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.operator_key_file == self.folder / OPERATOR_KEY_FILE:
            _write_secret(self.operator_key_file, secrets.token_hex(32))
        environment = {
            **os.environ,
            "TS_CONFIG_FILE": str(config_file),
            "TMPDIR": str(scratch),
            "TEMP": str(scratch),
            "LOG_LOCATION": str(self.folder / "logs"),
            "METRICS_LOCATION": str(self.folder / "logs"),
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
            **({"JAVA_HOME": home} if home else {}),
            **self._threads(),
            **self.environment,
            KEY_FILE_VARIABLE: str(self.operator_key_file),
        }
        command = [sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ncs"]
        command += ["--models", f"{self.model}={self.archive.name}"]
        command += ["--model-store", str(self.archive.parent)]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # its own process group, to stop it as a whole
            )

    def wait_until_ready(self, tick: Callable[[], object] = lambda: None) -> None:
        """Wait until all workers are READY; `tick` is called while waiting.

        Raises:
            ServerError: with the reason from the log, if the server ends, if workers keep
                failing, or after `timeout` seconds.
        """
        deadline = time.monotonic() + self.timeout
        with self.client(timeout=10) as client:
            while time.monotonic() < deadline:
                if self._process is None or self._process.poll() is not None:
                    raise ServerError(f"TorchServe ended while starting.{self._reason()}")
                if client.ready():
                    return
                if self._log().count("Load model failed") >= _FAILED_LOADS:
                    raise ServerError(f"The workers cannot load {self.archive}.{self._reason()}")
                tick()
                time.sleep(_POLL_SECONDS)
        raise ServerError(f"No worker was ready after {self.timeout:g} s.{self._reason()}")

    def stop(self) -> None:
        """Stop the server and its workers, and wait until all are gone."""
        if self._process is not None:
            group = self._process.pid
            try:
                _signal_group(group, signal.SIGTERM)
                deadline = time.monotonic() + _STOP_SECONDS
                while _group_lives(group, self._process) and time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
            finally:  # a second Ctrl-C must not leave them running
                _signal_group(group, signal.SIGKILL)
                self._process.wait()
                self._process = None
                (self.folder / "key_file.json").unlink(missing_ok=True)
                (self.folder / OPERATOR_KEY_FILE).unlink(missing_ok=True)
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def wait(self) -> None:
        """Wait for the server to end by itself.

        Raises:
            ServerError: once it has.
        """
        if self._process is not None:
            self._process.wait()
        raise ServerError(f"TorchServe has ended.{self._reason()}")

    def _write_config(self, target: Path) -> Path:
        source = self.config or self.folder / "config.properties"
        if self.config is None and not source.is_file():
            packaged = importlib.resources.files("videopure.launcher") / "config.properties"
            text = packaged.read_text(encoding="utf-8")
        else:
            text = source.read_text(encoding="utf-8")
        overrides = {"model_store": str(self.archive.parent), **self.overrides}
        if not (self.folder / "metrics.yaml").is_file():
            packaged = importlib.resources.files("videopure.launcher") / "metrics.yaml"
            overrides.setdefault("metrics_config", str(packaged))
        if self.workers is not None:
            overrides["default_workers_per_model"] = str(self.workers)
        kept = [line for line in text.splitlines() if line.split("=")[0].strip() not in overrides]
        lines = [*kept, *(f"{key}={value}" for key, value in overrides.items())]
        written = "\n".join(lines) + "\n"
        target.write_text(written, encoding="utf-8")
        self._properties = read_properties(written)
        return target

    def _threads(self) -> dict[str, str]:
        """Threads of each worker, so that together they fill the cores once."""
        workers = int(self._properties.get("default_workers_per_model") or 1)
        if workers < 2 or "OMP_NUM_THREADS" in os.environ:
            return {}
        return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))}

    def _log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def _reason(self) -> str:
        """The last error of the log, and where to read more."""
        errors = re.findall(r"MODEL_LOG - (?:\w+\.)*(\w*(?:Error|Exception): .*)", self._log())
        errors += re.findall(r"(?:Caused by|Exception in).*", self._log())
        # Without an error line, the last line is the reason: a missing module.
        errors = errors or [line for line in self._log().splitlines() if line.strip()][-1:]
        reason = f" The log says: {errors[-1]}" if errors else ""
        return f"{reason} (whole log: {self.log_file})"


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can ever read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # all gone already


def _group_lives(group: int, leader: subprocess.Popen[bytes]) -> bool:
    leader.poll()  # reap it, or it would live on as a zombie of the group
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
