"""VideoPure for the adversarial-robustness-toolbox (ART), so that ART's attacks run against it.

Needs the extra `art`. ART's clips are arrays in 0..1, [N, 3, T, H, W] or [N, T, 3, H, W].
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from videopure.evaluation.attacks.losses import bpda, soft_vote
from videopure.purifier.defended import DefendedRecogniser
from videopure.purifier.recognisers import Recogniser

__all__ = ["Gradient", "Layout", "VideoPurePreprocessor", "art_classifier", "art_defence"]

Layout = Literal["NCTHW", "NTCHW"]
Gradient = Literal["exact", "bpda"]


class VideoPurePreprocessor(PreprocessorPyTorch):
    """Purifies clips before any ART classifier sees them.

    A preprocessor returns one clip for each, so this returns the last candidate and there is no
    vote; `art_defence` is all that is served.

    Args:
        defended: provides the purifier and settings; checkpointed if `exact`.
        gradient: `exact` goes through the whole purifier, `bpda` treats it as the identity.
        layout: layout of the clips, N clips of C channels and T frames.
        seed: seed of the random draws, the same at every call; None draws again, so attacks must
            average (ART's `EoTPyTorch` is for images; give attacks more steps instead).
        apply_predict: whether predictions are made on purified clips.
    """

    params = ("gradient", "layout", "seed")

    def __init__(
        self,
        defended: DefendedRecogniser,
        *,
        gradient: Gradient = "exact",
        layout: Layout = "NCTHW",
        seed: int | None = None,
        apply_predict: bool = True,
    ) -> None:
        super().__init__(is_fitted=True, apply_fit=False, apply_predict=apply_predict)
        self.gradient = gradient
        self.layout = layout
        self.seed = seed
        self._check_params()
        self._defended = defended
        self._device = next(defended.purifier.parameters()).device

    def forward(self, x: Tensor, y: Any = None) -> tuple[Tensor, Any]:
        """Purified clips like `x` [N, ...] in the layout, and `y` unchanged.

        Raises:
            ValueError: if `x` has another layout.
        """
        clips = _to_clips(x, self.layout)
        if self.gradient == "bpda":
            with torch.no_grad():
                purified = self._purified(clips)
            # The value of the purified clip with the gradient of the clip.
            purified = clips + (purified - clips).detach()
        else:
            self._defended.pipeline.gradient_checkpointing = True
            purified = self._purified(clips)
        return _from_clips(purified, self.layout).to(x.dtype), y

    def _purified(self, clips: Tensor) -> Tensor:
        shown = self._defended.candidates(clips, _seeds(self.seed, len(clips)))
        return torch.stack([candidates[-1] for candidates in shown])

    def _check_params(self) -> None:
        _check("gradient", self.gradient, get_args(Gradient))
        _check("layout", self.layout, get_args(Layout))


def art_classifier(
    recogniser: Recogniser,
    *,
    layout: Layout = "NCTHW",
    preprocessor: VideoPurePreprocessor | None = None,
) -> PyTorchClassifier:
    """A recogniser as an ART classifier, bare or behind a preprocessor."""
    model = _Model(recogniser.logits, layout)
    return _classifier(model, recogniser, layout, preprocessor)


def art_defence(
    defended: DefendedRecogniser,
    *,
    gradient: Gradient = "exact",
    layout: Layout = "NCTHW",
    seed: int | None = None,
) -> PyTorchClassifier:
    """All that is served as an ART classifier: purifier, recogniser and soft vote.

    Arguments as for `VideoPurePreprocessor`. Its predictions are log probabilities of the soft
    vote, the mean over all candidates. The served vote counts labels, which has no gradient.
    """
    _check("gradient", gradient, get_args(Gradient))
    defended.pipeline.gradient_checkpointing = True
    straight = bpda(defended.candidates, defended.recogniser.logits)

    def logits(clips: Tensor) -> Tensor:
        votes = defended.votes if gradient == "exact" else straight
        return soft_vote(votes(clips, _seeds(seed, len(clips))))

    return _classifier(_Model(logits, layout), defended.recogniser, layout, None)


class _Model(nn.Module):
    """The model in ART's sense: arrays in their layout -> logits [N, classes]."""

    def __init__(self, logits: Any, layout: Layout) -> None:
        super().__init__()
        _check("layout", layout, get_args(Layout))
        self._logits, self._layout = logits, layout

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self._logits(_to_clips(x, self._layout))
        return logits


def _classifier(
    model: nn.Module,
    recogniser: Recogniser,
    layout: Layout,
    preprocessor: VideoPurePreprocessor | None,
) -> PyTorchClassifier:
    height, width = recogniser.frame_size
    frames = recogniser.num_frames
    return PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),
        input_shape=(3, frames, height, width) if layout == "NCTHW" else (frames, 3, height, width),
        nb_classes=len(recogniser.labels),
        clip_values=(0.0, 1.0),
        preprocessing_defences=preprocessor,
        device_type="gpu" if torch.cuda.is_available() else "cpu",
    )


def _to_clips(x: Tensor, layout: Layout) -> Tensor:
    """Clips [N, T, 3, H, W]."""
    channels = 1 if layout == "NCTHW" else 2
    if x.ndim != 5 or x.shape[channels] != 3:
        raise ValueError(
            f"clips must be {layout} with 3 channels, got {list(x.shape)}: see `layout`"
        )
    return x.transpose(1, 2) if layout == "NCTHW" else x  # [N, T, 3, H, W]


def _from_clips(clips: Tensor, layout: Layout) -> Tensor:
    return clips.transpose(1, 2) if layout == "NCTHW" else clips


def _seeds(seed: int | None, count: int) -> list[int]:
    """A seed for each clip; fresh ones if none is given."""
    if seed is None:
        return torch.randint(2**62, (count,)).tolist()
    return [seed + k for k in range(count)]


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
