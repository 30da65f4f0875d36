"""The handler that TorchServe calls. The archive's entry file holds a subclass of it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from videopure.format.integrity import FolderFiles
from videopure.format.loading import load_folder
from videopure.format.manifest import CONFIG_NAME, Manifest, ManifestError
from videopure.format.opening import Archive, digest_archive
from videopure.format.settings import HandlerSettings, ModelConfig
from videopure.handler.decoder import Decoder
from videopure.handler.description import describe
from videopure.handler.metrics import emit, first_samples, samples_of
from videopure.handler.policy import OperatorKey
from videopure.handler.responses import Reply
from videopure.handler.service import VideoPureService
from videopure.wire.schemas import ModelNames

__all__ = ["REQUIRED_SIGNATURE", "TorchServeHandler", "load_service"]

logger = logging.getLogger(__name__)

# Environment variable: PEM file of the key that must have signed what a worker serves.
REQUIRED_SIGNATURE = "VIDEOPURE_REQUIRE_SIGNATURE"


class TorchServeHandler:
    """Loads the archive once per worker and answers whole batches.

    It relies only on the attributes and methods of TorchServe's context and does not import
    TorchServe.
    """

    def __init__(self) -> None:
        self.service: VideoPureService | None = None
        self.root = Path()
        self.decoder: Decoder | None = None

    def initialize(self, context: Any) -> None:
        """Check, load and warm up the archive's models on the worker's own device."""
        start = time.monotonic()
        # TorchServe looks at this for each request: bodies are left to `handler.bodies`, which
        # refuses JSON that takes seconds and gigabytes.
        os.environ["TS_DECODE_INPUT_REQUEST"] = "false"
        config = ModelConfig.parse(context.model_yaml_config)
        settings = config.videopure
        properties = context.system_properties
        device = _device(properties.get("gpu_id"))
        # First, because it loads its libraries while this process loads others.
        self.decoder = Decoder() if hasattr(os, "fork") else None
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self.root = Path(properties["model_dir"])
        self._check_settings(config)
        required = os.environ.get(REQUIRED_SIGNATURE)
        self.service = load_service(
            *(self.root, settings, device, config.responseTimeout),
            public_key=Path(required) if required else None,
        )
        if self.decoder is not None:
            self.service.intake.read = self.decoder.read
        if settings.warm_up or settings.max_clips_per_forward == "auto":
            self.service.warm_up()
        if getattr(context, "metrics", None) is not None:
            emit(first_samples(self.service, digest_archive(self.root)), context.metrics)
        logger.info(
            "VideoPure is ready on %s after %.1f s: %s behind %s",
            device,
            time.monotonic() - start,
            self.service.names.recogniser,
            self.service.names.purifier,
        )

    def _check_settings(self, config: ModelConfig) -> None:
        """TorchServe must have read the settings that the archive records."""
        if config != Archive(self.root, FolderFiles(self.root)).config:
            raise ManifestError(
                f"TorchServe has other settings than those of {CONFIG_NAME} in the archive"
            )

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[str | bytes]:
        """One JSON text or video per row, with its own status and content type."""
        if self.service is None:
            raise RuntimeError("handle was called before initialize")
        if _asks_for_description(data, context):
            return [json.dumps(describe(self.service, Manifest.read(self.root)))]
        start = time.perf_counter()
        rows = range(len(data))
        request_ids = [context.get_request_id(index) or "" for index in rows]
        explain = [context.get_request_header(index, "explain") == "True" for index in rows]
        headers = [_headers(context.get_all_request_header(index)) for index in rows]
        batch = self.service.answer(data, request_ids, explain, headers)
        milliseconds = 1000 * (time.perf_counter() - start)
        for index, reply in enumerate(batch.replies):
            context.set_response_status(reply.status, reply.phrase, index)
            context.set_response_content_type(index, reply.content_type)
            for name, value in reply.headers.items():
                context.set_response_header(index, name, value)
            _log(request_ids[index], reply, len(data), milliseconds)
        emit(samples_of(batch), context.metrics)
        return [reply.content() for reply in batch.replies]


def _asks_for_description(data: Sequence[Mapping[str, Any]], context: Any) -> bool:
    """Whether TorchServe's management address asks.

    TorchServe marks such a request by a header, which clients can also send with a prediction. But
    it comes alone, from a GET without a field or a body. A prediction without fields is an empty
    form, as its Content-Type shows.
    """
    if len(data) != 1 or data[0] or context.get_request_header(0, "describe") != "True":
        return False
    return "content-type" not in _headers(context.get_all_request_header(0))


def _headers(sent: Mapping[Any, Any]) -> dict[str, str]:
    """A request's headers, names in lower case; gRPC has none."""
    return {str(name).lower(): value for name, value in sent.items() if isinstance(value, str)}


def _log(request_id: str, reply: Reply, batch_size: int, milliseconds: float) -> None:
    """One line of JSON per request, without headers or bodies, which hold keys and videos."""
    entry: dict[str, Any] = {
        "event": "request",
        "request_id": request_id,
        "status": reply.status,
        "batch_size": batch_size,
        "batch_ms": round(milliseconds, 1),
    }
    if reply.status >= 400:
        entry |= {"error": reply.body["type"], "message": reply.body["message"]}
    else:
        verdicts = [judged.verdict for judged in reply.judged]
        entry |= {
            "clips": reply.clips,
            "label_ids": [verdict.label_id for verdict in verdicts],
            "suspicion": [verdict.suspicion for verdict in verdicts],
            "votes": [len(verdict.votes) for verdict in verdicts],
        }
    logger.info(json.dumps(entry))


def load_service(
    root: Path,
    settings: HandlerSettings,
    device: torch.device,
    response_timeout: float | None = None,
    public_key: Path | None = None,
) -> VideoPureService:
    """Load an unpacked archive; arguments as for `VideoPureService` and `load_folder`.

    Raises:
        ManifestError: if a file is missing or has changed since the archive was built.
    """
    loaded = load_folder(root, settings, device, public_key)
    manifest = loaded.manifest
    names = ModelNames(
        name=manifest.name,
        version=manifest.version,
        recogniser=manifest.recogniser.name,
        purifier=manifest.purifier.name,
    )
    changes = Archive(root, FolderFiles(root)).changes
    return VideoPureService(
        *(loaded.defended, settings, names, response_timeout),
        operator_key=OperatorKey.from_environment(),
        calibrated=_calibrated(settings, {} if changes is None else changes.changed),
    )


def _calibrated(settings: HandlerSettings, changed: Mapping[str, Any]) -> bool:
    """Whether the thresholds belong to the settings, which the operator may have changed."""
    if settings.calibration.clips:
        if settings.outdated_calibration:
            logger.warning(
                "The alarm is off: its thresholds were %s; see videopure calibrate",
                settings.outdated_calibration,
            )
        return settings.outdated_calibration is None
    section = "videopure.purification."
    keys = {key.removeprefix(section) for key in changed if key.startswith(section)}
    return keys <= {"change_threshold"} or "suspicion_threshold" in keys


def _device(gpu_id: int | str | None) -> torch.device:
    """The GPU that TorchServe assigned to the worker, or the CPU."""
    if gpu_id is None:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"TorchServe assigned GPU {gpu_id} to this worker, but this torch cannot use it: "
            "install a CUDA build of torch, or set deviceType: cpu in model-config.yaml"
        )
    return torch.device("cuda", int(gpu_id))
