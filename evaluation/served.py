"""The answers that clients get, from the service that workers run, under its policy."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor

from videopure.format.limits import Limits
from videopure.format.settings import Detail, HandlerSettings, Policy
from videopure.handler.service import VideoPureService
from videopure.handler.video import Clip, Sampling
from videopure.purifier import DefendedRecogniser, Framing
from videopure.wire.schemas import ModelNames, VideoInfo

__all__ = ["LEVELS", "ServedAnswers"]

LEVELS: tuple[Detail, ...] = get_args(Detail)

_NAMES = ModelNames(name="videopure", version="", recogniser="", purifier="")


class ServedAnswers:
    """Asks the service about clips, like a client without the operator's key.

    Everything from the request's fields to the JSON answer is what a worker does, including the
    policy's rounding; only the decoder is skipped: each request stands for a video whose frames are
    the clip's.

    Args:
        defended: the served model.
        level: how much the answers tell clients.
        decimals: decimals of the scores at level `scores`.
        together: clips that are purified together.
    """

    def __init__(
        self,
        defended: DefendedRecogniser,
        level: Detail,
        decimals: int = Policy().decimals,
        together: int = 4,
    ) -> None:
        settings = HandlerSettings(
            purification=defended.settings,
            max_inversion_steps=defended.settings.inversion_steps,
            max_clips_per_forward=together,
            policy=Policy(answer=level, decimals=decimals),
        )
        self._clips: list[Tensor] = []
        self._service = VideoPureService(defended, settings, _NAMES, read=self._read)
        self._top_k = str(len(defended.recogniser.labels)).encode()
        self.asked = 0

    def __call__(self, clips: Tensor) -> list[dict[str, Any]]:
        """The answers' JSON to clips [B, T, 3, H, W] in 0..1, one for each."""
        self._clips = list(clips.cpu())  # as a decoder returns them
        self.asked += len(clips)
        # Not the text of a number, which would be read as JSON or base64.
        rows = [{"video": b"\0%d" % k, "top_k": self._top_k} for k in range(len(clips))]
        replies = self._service.answer(rows, list(map(str, range(len(clips))))).replies
        for reply in replies:
            if reply.status != 200:
                raise RuntimeError(f"the service answered {reply.status}: {reply.body}")
        return [reply.body for reply in replies]

    def labels(self, clips: Tensor) -> Tensor:
        """The answered classes, [B]."""
        return torch.tensor([answer["predictions"][0]["label_id"] for answer in self(clips)])

    def _read(self, video: bytes, sampling: Sampling, framing: Framing, limits: Limits) -> Clip:
        frames = self._clips[int(video[1:])]
        count, _, height, width = frames.shape
        info = VideoInfo(
            frames=count,
            fps=None,
            duration_s=None,
            width=width,
            height=height,
            frame_indices=list(range(count)),
        )
        return Clip(frames, info, [])
