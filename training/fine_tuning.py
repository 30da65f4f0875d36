"""A transformers recogniser for your own classes, to be trained further."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from videopure.purifier import TransformersRecogniser, load_recogniser
from videopure.purifier.recognisers.processors import find_processor

__all__ = ["for_classes", "save_fine_tuned"]


def for_classes(folder: Path, classes: Sequence[str]) -> TransformersRecogniser:
    """Load a transformers recogniser; its head begins at random where it has other classes.

    Args:
        folder: written by `save_pretrained`, with the processor's configuration. Its code is never
            run, and its weights must be safetensors.
        classes: names, in the order of the logits.

    Raises:
        ValueError: if the folder holds no transformers recogniser.
    """
    recogniser = load_recogniser(folder)
    if not isinstance(recogniser, TransformersRecogniser):
        raise ValueError(f"start must be a transformers folder, got {folder}")
    if list(recogniser.labels) == list(classes):
        recogniser.requires_grad_(True)  # loaded to be served, it is frozen
        return recogniser
    from transformers import AutoModelForVideoClassification  # heavy, and an extra

    model = AutoModelForVideoClassification.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # of the head; the folder has just loaded whole
        num_labels=len(classes),
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
    )
    return TransformersRecogniser(model, find_processor(folder), recogniser.name)


def save_fine_tuned(recogniser: TransformersRecogniser, start: Path, out: Path) -> None:
    """Write the recogniser in its own layout, with the processor of the folder it started from."""
    recogniser.model.save_pretrained(out)
    processor = json.dumps(find_processor(start), indent=1)
    (out / "preprocessor_config.json").write_text(processor + "\n", encoding="utf-8")
