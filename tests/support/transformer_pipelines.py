"""Tiny random-weight CogVideoX and Wan, put together and saved by diffusers' own pipelines."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXTransformer3DModel,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
)
from torch import Tensor

from videopure.purifier import VideoPurePipeline
from videopure.purifier.networks import PromptEmbedding

__all__ = [
    "PIPELINES",
    "SIZE",
    "TOKENS",
    "cogvideox_parts",
    "random_clips",
    "save_cogvideox",
    "save_wan",
    "text_encoder",
    "tokenizer",
    "wan_parts",
    "with_prompt",
]

TOKENS = 6  # of a prompt for the tiny CogVideoX
TEXT_FEATURES = 16
CHANNELS = 4
SIZE = (16, 32)  # height and width of clips: patches of one row
_WORDS = ("▁a", "▁person", "▁waves", "▁", "s", "e")


def tokenizer() -> Any:
    from transformers import T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    words = [(word, -1.0 - index) for index, word in enumerate(_WORDS)]
    return T5Tokenizer(vocab=[*special, *words], extra_ids=0)


@cache
def text_encoder(kind: str) -> Any:
    """`t5` or `umt5`."""
    import transformers

    torch.manual_seed(5)
    config = {
        "vocab_size": 3 + len(_WORDS),
        "d_model": TEXT_FEATURES,
        "d_kv": 4,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 2,
    }
    if kind == "t5":
        return transformers.T5EncoderModel(transformers.T5Config(**config)).eval()
    return transformers.UMT5EncoderModel(transformers.UMT5Config(**config)).eval()


def wan_parts() -> dict[str, Any]:
    """Codec of 4 latent channels and two pixels a latent, transformer with patches of 2x2."""
    torch.manual_seed(6)
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[0.5, 0.8, 1.1, 0.9],
    )
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=TEXT_FEATURES,
        freq_dim=16,
        ffn_dim=16,
        num_layers=2,
        rope_max_seq_len=32,
    )
    # As Wan 2.1 comes: UniPC on the sigmas of flow matching.
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return {"vae": vae.eval(), "transformer": transformer.eval(), "scheduler": scheduler}


def cogvideox_parts() -> dict[str, Any]:
    """The same sizes in CogVideoX's classes, with the schedule of CogVideoX-2B."""
    torch.manual_seed(7)
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        latent_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=2,
    )
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        time_embed_dim=4,
        text_embed_dim=TEXT_FEATURES,
        num_layers=2,
        sample_width=4,
        sample_height=4,
        sample_frames=9,
        max_text_seq_length=TOKENS,
    )
    scheduler = CogVideoXDDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=3.0,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    return {"vae": vae.eval(), "transformer": transformer.eval(), "scheduler": scheduler}


def save_wan(folder: Path) -> Path:
    """A folder as Wan 2.1's, with its UMT5."""
    from diffusers import WanPipeline

    WanPipeline(
        tokenizer=tokenizer(), text_encoder=text_encoder("umt5"), **wan_parts()
    ).save_pretrained(folder)
    return folder


def save_cogvideox(folder: Path) -> Path:
    """A folder as CogVideoX-2B's, with its T5."""
    from diffusers import CogVideoXPipeline

    CogVideoXPipeline(
        tokenizer=tokenizer(), text_encoder=text_encoder("t5"), **cogvideox_parts()
    ).save_pretrained(folder)
    return folder


def with_prompt(parts: dict[str, Any], tokens: int) -> VideoPurePipeline:
    """A pipeline of such parts and a random prompt of so many tokens."""
    torch.manual_seed(8)
    prompt = PromptEmbedding.from_tensor(torch.randn(1, tokens, TEXT_FEATURES))
    pipeline = VideoPurePipeline(unet=None, prompt_embedding=prompt, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


PIPELINES: dict[str, Callable[[], VideoPurePipeline]] = {
    "wan": lambda: with_prompt(wan_parts(), 5),
    "cogvideox": lambda: with_prompt(cogvideox_parts(), TOKENS),
}


def random_clips(batch: int = 1, frames: int = 5) -> Tensor:
    """[B, T, 3, 16, 32] in 0..1, the same each time."""
    generator = torch.Generator().manual_seed(5)
    return torch.rand(batch, frames, 3, *SIZE, generator=generator)
