"""Asks the served model about a clip, and assembles what the page shows."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from videopure.client import ClientError, ModelNotFoundError, RequestFailedError, VideoPureClient
from videopure.wire.evidence import CAPTION, GAIN, GAP
from videopure.wire.schemas import Answer, Votes

__all__ = ["Asker", "Report", "explained"]

_TOP = 5  # classes with a bar


@dataclass(frozen=True)
class Report:
    """The server's answers about a clip.

    Args:
        answer: with the archive's own settings or the requested ones.
        bare: the recogniser alone; None if the server does not tell it.
        votes: every vote, including those that were not needed; None if not told.
        evidence: an mp4 of the three panels; None if the server does not send it.
    """

    answer: Answer
    bare: Answer | None = None
    votes: Votes | None = None
    evidence: bytes | None = None

    def as_json(self) -> dict[str, Any]:
        """The JSON for the page."""
        return {
            "answer": self.answer.model_dump(mode="json"),
            "bare": self.bare and self.bare.model_dump(mode="json")["predictions"],
            "votes": self.votes and self.votes.model_dump(mode="json"),
            "evidence": self.evidence and base64.b64encode(self.evidence).decode(),
        }


class Asker:
    """Asks a running server, as the operator if the operator's key is available.

    Args:
        client: client of the server. May be shared by threads.
    """

    def __init__(self, client: VideoPureClient) -> None:
        self.client = client
        self._description: dict[str, Any] | None = None
        self._lock = threading.Lock()

    @property
    def is_operator(self) -> bool:
        """Whether there is an operator's key, without which the server tells less."""
        return self.client.operator_key_file.is_file()

    def description(self) -> dict[str, Any]:
        """The model's description, requested once.

        Raises:
            ClientError: if the server does not give one.
        """
        with self._lock:
            if self._description is None:
                self._description = self.client.describe()
            return self._description

    def forget(self) -> None:
        """Ask for the description again, as the server may be another one."""
        with self._lock:
            self._description = None

    def about(self) -> dict[str, Any]:
        """The page's description of the model, or the reason why there is none."""
        shown: dict[str, Any] = {
            "server": self.client.inference_url,
            "operator": self.is_operator,
            "layout": {"caption": CAPTION, "gap": GAP, "gain": GAIN},
            "model": None,
            "problem": None,
        }
        try:
            told = self.description()
        except ClientError as error:
            return {**shown, "problem": explained(error, self.client.model)}
        purifier, options = told.get("purifier", {}), told.get("options", {})
        return shown | {
            "model": {
                "name": told.get("model", {}).get("name"),
                "version": told.get("model", {}).get("version"),
                "recogniser": told.get("recogniser", {}).get("name"),
                "purifier": purifier.get("name"),
                "labels": len(told.get("recogniser", {}).get("labels", [])),
                "threshold": purifier.get("suspicion_threshold"),
                "methods": options.get("method", {}).get("enum", []),
                "method": purifier.get("method"),
                "steps": purifier.get("inversion_steps"),
                "most_steps": options.get("inversion_steps", {}).get("maximum"),
                "device": told.get("device"),
                "videopure": told.get("versions", {}).get("videopure"),
            }
        }

    @property
    def max_bytes(self) -> int | None:
        """Size of the largest video that the server reads, if known."""
        limits = (self._description or {}).get("limits", {})
        return limits.get("max_bytes")

    def ask(self, video: bytes, options: Mapping[str, Any]) -> Report:
        """Ask about a clip: the evidence, the bare recogniser, and the votes that were not needed.

        Args:
            video: the file, which is passed on unchanged.
            options: options of the request, such as `method`.

        Raises:
            ClientError: with the server's reason.
        """
        if not self.is_operator:
            return Report(self.client.predict(video, **options))
        alone = {name: value for name, value in options.items() if name == "clips"}
        with ThreadPoolExecutor(1) as pool:
            bare = pool.submit(self.client.predict, video, purify=False, top_k=_TOP, **alone)
            evidence = self.client.explain(video, **options)
            votes = evidence.answer.votes
            if votes is not None and votes.counted < votes.of:
                votes = self.client.predict(video, **{**options, "votes": "full"}).votes
            return Report(evidence.answer, bare.result(), votes, evidence.video)


def explained(error: ClientError, model: str) -> str:
    """A client's error in the page's words."""
    if isinstance(error, ModelNotFoundError):
        return f"The server has no model {model!r}. Start the page with --model NAME."
    if isinstance(error, RequestFailedError):
        return error.message[:1].upper() + error.message[1:]
    return f"{str(error)[:1].upper()}{str(error)[1:]}."
