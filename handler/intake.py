"""Turns the rows of a batch into decoded videos, and checks what requests may ask for."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videopure.format.settings import HandlerSettings
from videopure.handler.batching import ClipTask
from videopure.handler.bodies import open_body
from videopure.handler.clips import read_for_recogniser
from videopure.handler.decoder import ReadClip
from videopure.handler.errors import (
    ForbiddenError,
    InvalidRequestError,
    OutOfTimeError,
    RequestError,
    TooSimilarError,
)
from videopure.handler.policy import OperatorKey, Share, check_options, share_of
from videopure.handler.protocols import Envelope, open_envelope
from videopure.handler.requests import Options, parse_row
from videopure.handler.similarity import Sighting, SimilarityMemory, client_of
from videopure.handler.video import Clip
from videopure.purifier import Recogniser

__all__ = ["Asked", "Intake", "Job"]

logger = logging.getLogger(__name__)

_PHASES = 1000  # sampling phases to draw from


@dataclass(frozen=True)
class Asked:
    """What applies to all videos of a request.

    Args:
        explain: whether it asks for the evidence instead of the answer.
        decode_by: deadline, a time of `time.monotonic`.
        operator: whether it carries the operator's key.
        client: a digest of the client's name.
    """

    request_id: str
    explain: bool
    decode_by: float | None
    operator: bool
    client: str


@dataclass(frozen=True, eq=False)
class Job:
    """A valid video on its way through the purifier; `clip` holds the frames of all its clips.

    `sightings` are the findings of the similarity memory, if any, for each.
    """

    options: Options
    clip: Clip
    decode_ms: float
    work: int  # clips times denoising steps
    asked: Asked
    sightings: tuple[Sighting, ...] = ()

    def tasks(self) -> list[ClipTask]:
        """The clips of the video; each gets its own noise."""
        seed = self.options.seed
        return [
            ClipTask(
                self.asked.request_id,
                self.options,
                frames,
                None if seed is None else seed + number,
                keep_purified=self.asked.explain,
                steps=self.work // self.clip.clips,
            )
            for number, frames in enumerate(self.clip.frames.chunk(self.clip.clips))
        ]


class Intake:
    """Opens requests and decodes their videos.

    Args:
        recogniser: defines the clips that are read.
        settings: limits, and what clients may ask for.
        operator_key: tells which requests are the operator's.
        read: the function that decodes videos.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        settings: HandlerSettings,
        operator_key: OperatorKey,
        read: ReadClip,
    ) -> None:
        self.recogniser = recogniser
        self.settings = settings
        self.operator_key = operator_key
        self.read = read
        remembers = settings.similarity.clips > 0
        self.memory = SimilarityMemory(settings.similarity) if remembers else None
        self.sightings: list[Sighting] = []  # of the batch, including refused clips

    def open(
        self,
        row: Mapping[str, Any],
        request_id: str,
        explain: bool,
        headers: Mapping[str, str],
        decode_by: float | None,
    ) -> tuple[Envelope, list[Job]]:
        """The videos of a request, decoded.

        Args:
            row: the row from TorchServe.
            explain, decode_by: see `Asked`.
            headers: headers of the request, names in lower case.

        Raises:
            RequestError: the answer to the request instead.
        """
        operator = self.operator_key.admits(headers)
        if explain and not operator and self.settings.policy.answer != "full":
            raise ForbiddenError(
                "the evidence shows everything that purification changes: this server shows it "
                "only to its operator (policy.answer in model-config.yaml)"
            )
        row = open_body(row, headers, self.settings.limits.max_bytes)
        envelope = open_envelope(row, self.settings.max_clips)
        if explain and envelope.protocol != "plain":
            raise InvalidRequestError(
                "the evidence is of one video: send it as a body or a multipart field"
            )
        client = client_of(headers, self.settings.similarity.client_header)
        asked = Asked(request_id, explain, decode_by, operator, client)
        return envelope, self._read_all(envelope, asked)

    def _read_all(self, envelope: Envelope, asked: Asked) -> list[Job]:
        jobs: list[Job] = []
        for number, row in enumerate(envelope.rows):
            try:
                jobs.append(self._read(row, asked, jobs))
            except RequestError as error:
                raise envelope.locate(error, number) from error
        return jobs

    def _read(self, row: Mapping[str, Any], asked: Asked, before: Sequence[Job]) -> Job:
        """Decode a video, which may follow others of the same request."""
        start = time.perf_counter()
        if asked.decode_by is not None and time.monotonic() > asked.decode_by:
            raise OutOfTimeError(
                "decoding the other videos of the batch took too long for the worker's "
                "responseTimeout: send the request again"
            )
        request = parse_row(row, self.settings)
        share = self._share(request.options, asked, before)
        clip = read_for_recogniser(
            *(request.video, self.recogniser, self.settings.limits, share.clips),
            stride=share.stride,
            phase=secrets.randbelow(_PHASES) / _PHASES if self.settings.random_phase else None,
            read=self.read,
        )
        spent = 1000 * (time.perf_counter() - start)
        sightings = self._look(clip, asked)
        return Job(request.options, clip, spent, clip.clips * share.steps, asked, sightings)

    def _look(self, clip: Clip, asked: Asked) -> tuple[Sighting, ...]:
        """Compare the clips of a video with the client's recent ones; the operator's always pass.

        Raises:
            TooSimilarError: if there are as many near-duplicates as the settings refuse.
        """
        if self.memory is None:
            return ()
        found = self.memory.observe(asked.client, clip.frames.chunk(clip.clips))
        self.sightings.extend(found)
        for sighting in found:
            if sighting.first:
                logger.warning(
                    json.dumps(
                        {
                            "event": "near_duplicates",
                            "request_id": asked.request_id,
                            "client": sighting.client,
                            "near_duplicates": sighting.near,
                        }
                    )
                )
        if any(sighting.refused for sighting in found) and not asked.operator:
            raise TooSimilarError(
                "the clip is a near-duplicate of too many recent clips of the same client "
                f"({self.settings.similarity.refuse_at} or more, similarity.refuse_at in "
                "model-config.yaml)"
            )
        return found

    def _share(self, options: Options, asked: Asked, before: Sequence[Job]) -> Share:
        """Refuse options that the policy or the request's other videos leave no room for."""
        if not asked.operator:
            check_options(options, self.settings)
        if asked.explain and not options.purify:
            raise InvalidRequestError(
                "option 'purify' must be true for the evidence, which shows what purification "
                "changed, got False"
            )
        clips, work = sum(job.clip.clips for job in before), sum(job.work for job in before)
        return share_of(options, self.settings, clips, work)
