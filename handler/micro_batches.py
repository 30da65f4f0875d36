"""How many clips fit into memory together."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from videopure.purifier.memory import free_memory, memory_taken

__all__ = ["clips_that_fit"]

logger = logging.getLogger(__name__)

# Share of free memory; other programs may need some, and batches differ in their peaks.
SHARE = 0.5
# More clips than this together are no faster per clip.
MOST = 32
# If Linux does not tell: the default of `max_clips_per_forward`.
UNKNOWN = 4


def clips_that_fit(one_clip: Callable[[], object], device: torch.device) -> int:
    """The number of clips to purify together, from the memory of one clip and the free memory.

    Args:
        one_clip: purifies one clip; called once.
        device: the device for it.
    """
    needed, free = memory_taken(one_clip, device), free_memory(device)
    if needed is None or free is None:
        logger.warning("Cannot tell how much memory is free: purifying %d clips together", UNKNOWN)
        return UNKNOWN
    clips = max(1, min(MOST, int(SHARE * free) // max(needed, 1)))
    logger.info(
        "One clip takes %.0f MB of %.0f MB free: purifying up to %d together",
        needed / 1e6,
        free / 1e6,
        clips,
    )
    return clips
