"""The constant text conditioning of a purification pipeline."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin  # diffusers finds its loader by this name
from torch import Tensor, nn

__all__ = ["PromptEmbedding", "embed_prompt"]


class PromptEmbedding(ModelMixin, ConfigMixin):
    """The text encoder's output for the one prompt that purification uses, stored as a weight.

    Purification always conditions the UNet on the same prompt (the empty one in the paper), so
    the embedding is a constant and the text encoder need not be served.

    Args:
        length: tokens L of the embedded prompt.
        dim: features D of each token (the UNet's `cross_attention_dim`).
        prompt: the text that was embedded, for the record.
    """

    @register_to_config
    def __init__(self, length: int, dim: int, prompt: str = "") -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(1, length, dim), requires_grad=False)

    @classmethod
    def from_tensor(cls, embedding: Tensor, prompt: str = "") -> PromptEmbedding:
        """Wrap an embedding of shape [1, L, D]."""
        if embedding.ndim != 3 or embedding.shape[0] != 1:
            raise ValueError(f"embedding must have shape [1, L, D], got {list(embedding.shape)}")
        module = cls(length=embedding.shape[1], dim=embedding.shape[2], prompt=prompt)
        module.embedding.data = embedding.detach().clone()
        return module

    def forward(self, batch_size: int) -> Tensor:
        """The embedding repeated for a batch: [B, L, D]."""
        return self.embedding.expand(batch_size, -1, -1)


@torch.no_grad()
def embed_prompt(
    text_encoder: Any,
    tokenizer: Any,
    prompt: str = "",
    *,
    length: int | None = None,
    masked: bool = False,
) -> PromptEmbedding:
    """The text encoder's last hidden state for a prompt.

    Args:
        text_encoder, tokenizer: of transformers.
        prompt: truncated if it is too long.
        length: number of tokens to pad to; the tokenizer's own if None.
        masked: mask the padding in the encoder, and set its embeddings to zero.
    """
    tokens = tokenizer(
        prompt,
        padding="max_length",
        max_length=tokenizer.model_max_length if length is None else length,
        truncation=True,
        return_tensors="pt",
    )
    ids = tokens.input_ids.to(text_encoder.device)
    if not masked:
        return PromptEmbedding.from_tensor(text_encoder(ids)[0], prompt)
    mask = tokens.attention_mask.to(text_encoder.device)
    hidden = text_encoder(ids, mask)[0]
    return PromptEmbedding.from_tensor(hidden * mask[..., None], prompt)
