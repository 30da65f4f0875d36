"""Families of transformers: their folders, and parts that do not fit together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from tests.support.transformer_pipelines import (
    cogvideox_parts,
    random_clips,
    save_cogvideox,
    save_wan,
    text_encoder,
    tokenizer,
    wan_parts,
    with_prompt,
)
from videopure.purifier import VideoPurePipeline
from videopure.purifier.models import FAMILIES, find_family
from videopure.purifier.schedule import as_ddim

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("save", "kind", "pipeline_class", "options"),
    [
        (save_wan, "umt5", "WanPipeline", {"max_sequence_length": 512}),
        (save_cogvideox, "t5", "CogVideoXPipeline", {"max_sequence_length": 6}),
    ],
)
@torch.no_grad()
def test_a_folder_of_diffusers_loads_and_its_prompt_is_embedded_as_there(
    save: Callable[[Path], Path],
    kind: str,
    pipeline_class: str,
    options: dict[str, int],
    tmp_path: Path,
) -> None:
    import diffusers

    folder = save(tmp_path / "model")
    pipeline = VideoPurePipeline.from_pretrained(folder, local_files_only=True)
    theirs = getattr(diffusers, pipeline_class).from_pretrained(folder)
    expected, _ = theirs.encode_prompt("", do_classifier_free_guidance=False, **options)
    torch.testing.assert_close(pipeline.prompt_embedding(1), expected)
    family = find_family(pipeline.transformer)
    config = pipeline.transformer.config
    ours = family.embed(text_encoder(kind), tokenizer(), "a person waves", config)
    expected, _ = theirs.encode_prompt(
        "a person waves", do_classifier_free_guidance=False, **options
    )
    torch.testing.assert_close(ours(1), expected)
    pipeline.save_pretrained(tmp_path / "saved")
    again = VideoPurePipeline.from_pretrained(tmp_path / "saved", local_files_only=True)
    again.set_progress_bar_config(disable=True)
    pipeline.set_progress_bar_config(disable=True)
    first, second = (p(random_clips(), inversion_steps=0).candidates for p in (pipeline, again))
    assert torch.equal(first, second)


def cogvideox_vae() -> dict[str, Any]:
    return {"vae": cogvideox_parts()["vae"]}


def _scheduler(kind: Any, **config: Any) -> dict[str, Any]:
    return {"scheduler": kind(**config)}


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("wan", _scheduler(DDIMScheduler), "DDIMScheduler that is not set to flow matching"),
        ("wan", _scheduler(UniPCMultistepScheduler), "not set to flow matching, which Wan is"),
        ("cogvideox", _scheduler(DDIMScheduler), "scheduler is a DDIMScheduler of prediction_type"),
        ("wan", cogvideox_vae, "vae is a AutoencoderKLCogVideoX; use AutoencoderKLWan"),
        ("wan", {"decoder": torch.nn.Identity()}, "decoder is a Identity, which decodes single"),
    ],
)
def test_parts_that_do_not_fit_are_named(family: str, changes: Any, message: str) -> None:
    parts = {"wan": wan_parts, "cogvideox": cogvideox_parts}[family]()
    changes = changes() if callable(changes) else changes
    with pytest.raises(ValueError, match=message):
        with_prompt(parts | changes, 6)


def test_a_prompt_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt_embedding has 5 tokens, but the transformer take"):
        with_prompt(cogvideox_parts(), 5)


def test_a_class_of_no_family_is_named() -> None:
    with pytest.raises(ValueError, match=r"is a Linear, which is of no known family: use one of U"):
        find_family(torch.nn.Linear(1, 1))
    assert list(FAMILIES) == [
        "UNet3DConditionModel",
        "UNetMotionModel",
        "CogVideoXTransformer3DModel",
        "WanTransformer3DModel",
    ]


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (FlowMatchEulerDiscreteScheduler(), "is a FlowMatchEulerDiscreteScheduler, whose noise"),
        (CogVideoXDDIMScheduler(), "is a CogVideoXDDIMScheduler, whose noise schedule DDIM may"),
        (UniPCMultistepScheduler(use_flow_sigmas=True), "use_flow_sigmas must be False, got True"),
    ],
)
def test_no_schedule_is_made_up_for_what_is_not_known(scheduler: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_ddim(scheduler)
