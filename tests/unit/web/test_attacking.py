"""An attacked clip comes back from the server's framing as it was; an attack can be stopped."""

import asyncio
import json
import threading
from contextlib import aclosing

import numpy as np
import pytest
import torch

from videopure.purifier import Framing, prepare_clip
from videopure.web.app import _progress
from videopure.web.attacking import Attacked, as_sent

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "framing",
    [
        Framing((16, 24)),
        Framing((16, 16), resize=18),
        Framing((16, 24), resize=(21, 31)),
        Framing((16, 24), resize=(21, 31), centre="round"),
        Framing((16, 16), resize=(40, 16), interpolation="bicubic"),
    ],
    ids=str,
)
def test_framing_gives_the_attacked_pixels_back(framing: Framing) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 3, *framing.size)).astype(np.uint8)
    sent = as_sent(torch.from_numpy(pixels).float(), framing)
    frames = np.ascontiguousarray(sent.byte().permute(0, 2, 3, 1).numpy())  # [T, H, W, 3]
    seen = (prepare_clip(frames, framing) * 255).round().byte()
    assert np.array_equal(seen.numpy(), pixels)


def test_an_attack_ends_when_nobody_reads_its_steps() -> None:
    ended = threading.Event()

    def endless(on_step) -> Attacked:  # type: ignore[no-untyped-def]
        try:
            for number in range(1, 1_000_000):
                on_step(number)
        finally:
            ended.set()
        raise AssertionError("nobody stopped it")

    async def read_one() -> bytes:
        async with aclosing(_progress(endless, 5)) as lines:
            return await anext(lines)

    first = asyncio.run(read_one())
    assert json.loads(first) == {"step": 1, "of": 5}
    assert ended.wait(60)


def test_a_fault_of_the_attack_is_told_and_not_its_inside() -> None:
    def broken(on_step) -> Attacked:  # type: ignore[no-untyped-def]
        raise RuntimeError("out of memory at 0xdeadbeef")

    async def read() -> list[bytes]:
        return [line async for line in _progress(broken, 5)]

    (line,) = asyncio.run(read())
    assert json.loads(line) == {"message": "The attack failed; the page's log has the reason."}
