"""Whether the parts of a purification pipeline belong together, and with a clip of some length."""

from __future__ import annotations

from typing import Any

__all__ = ["PREDICTION_TYPES", "check_parts", "codec_factor", "most_frames"]

PREDICTION_TYPES = ("epsilon", "v_prediction")


def codec_factor(codec: Any) -> int:
    """Pixels along one side of a latent pixel of an image codec."""
    config = codec.config
    if "patch_size" in config:
        return int(config["patch_size"])
    blocks = config.get("block_out_channels") or config["encoder_block_out_channels"]
    return int(2 ** (len(blocks) - 1))


def most_frames(unet: Any) -> int | None:
    """Frames that a UNet takes at most, as AnimateDiff's do; None where any number will do."""
    frames = unet.config.get("motion_max_seq_length")
    return None if frames is None else int(frames)


def check_parts(
    vae: Any, unet: Any, scheduler: Any, prompt_embedding: Any, decoder: Any = None
) -> None:
    """Raise ValueError, naming the part and the way out, where two parts do not fit together."""
    prediction = scheduler.config.prediction_type
    if prediction not in PREDICTION_TYPES:
        raise ValueError(
            f"scheduler.prediction_type must be one of {', '.join(PREDICTION_TYPES)}, got "
            f"{prediction!r}"
        )
    channels = vae.config.latent_channels
    for name in ("in_channels", "out_channels"):
        if unet.config[name] != channels:
            raise ValueError(
                f"unet.{name} is {unet.config[name]}, but the vae's latents have {channels} "
                "channels: use the vae that the unet was trained with, and no unet that takes "
                "further channels, as those for inpainting do"
            )
    dim = unet.config.cross_attention_dim
    if isinstance(dim, int) and prompt_embedding.config.dim != dim:
        raise ValueError(
            f"prompt_embedding has {prompt_embedding.config.dim} features, but the unet takes "
            f"{dim}: embed the prompt with the text encoder that the unet was trained with"
        )
    if decoder is None:
        return
    if (decoder.config.latent_channels, codec_factor(decoder)) != (channels, codec_factor(vae)):
        raise ValueError(
            f"decoder takes {decoder.config.latent_channels} channels and enlarges by "
            f"{codec_factor(decoder)}, but the vae's latents have {channels} and shrink by "
            f"{codec_factor(vae)}: use a decoder distilled from this vae"
        )
