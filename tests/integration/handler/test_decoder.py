"""Decoding in a process of its own: the same frames, and an end to what would have none."""

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from tests.support.videos import encode, frames
from videopure.format.limits import Limits
from videopure.format.settings import HandlerSettings
from videopure.handler.decoder import Decoder
from videopure.handler.errors import NotAVideoError, TooLargeError, UnusableVideoError
from videopure.handler.torchserve import load_service
from videopure.handler.video import Sampling, read_clip
from videopure.purifier import Framing

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="looks at processes as Linux does"),
]

VIDEO = encode(frames(12, 48, 64))
FRAMING = Framing((24, 32))
SAMPLING = Sampling(4, clips=2)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    running = Decoder()
    yield running
    running.close()


@pytest.mark.parametrize("framing", [FRAMING, Framing((16, 16), resize=20, sampling="time")])
@pytest.mark.parametrize("phase", [None, 0.25])
def test_the_frames_are_those_of_the_one_reader(
    decoder: Decoder, framing: Framing, phase: float | None
) -> None:
    sampling = Sampling(4, clips=2, phase=phase)
    ours, theirs = (read(VIDEO, sampling, framing, Limits()) for read in (decoder.read, read_clip))
    assert torch.equal(ours.frames, theirs.frames)
    assert (ours.info, ours.warnings, ours.clips) == (theirs.info, theirs.warnings, theirs.clips)


def test_errors_are_those_of_the_one_reader(decoder: Decoder) -> None:
    for data, kind in (
        (b"text", NotAVideoError),
        (b"", UnusableVideoError),
        (VIDEO[: len(VIDEO) // 2], UnusableVideoError),
    ):
        with pytest.raises(kind) as ours:
            decoder.read(data, SAMPLING, FRAMING, Limits())
        with pytest.raises(kind) as theirs:
            read_clip(data, SAMPLING, FRAMING, Limits())
        assert str(ours.value) == str(theirs.value)
    with pytest.raises(TooLargeError, match="12 frames, more than the 5"):
        decoder.read(VIDEO, SAMPLING, FRAMING, Limits(max_frames=5))


def test_what_never_comes_back_ends_at_the_deadline(decoder: Decoder) -> None:
    """A reader that is stopped, as one within FFmpeg's own loops, looks at no clock of ours."""
    decoder.read(VIDEO, SAMPLING, FRAMING, Limits())  # started
    readers = children_of(decoder)
    (reader,) = readers
    os.kill(reader, signal.SIGSTOP)
    with pytest.raises(TooLargeError, match=r"longer than the 0\.5 s allowed"):
        decoder.read(VIDEO, SAMPLING, FRAMING, Limits(max_decode_seconds=0.5))
    assert decoder.read(VIDEO, SAMPLING, FRAMING, Limits()).info.frames == 12
    assert children_of(decoder).isdisjoint(readers)  # it computes no longer


def test_batch_mates_of_a_video_that_holds_the_decoder_are_answered(
    decoder: Decoder, tiny_archive: Path, tmp_path: Path
) -> None:
    ZipFile(tiny_archive).extractall(tmp_path)
    section = {"limits": {"max_decode_seconds": 1}, "purification": {"inversion_steps": 0}}
    service = load_service(tmp_path, HandlerSettings.parse(section), torch.device("cpu"))
    service.intake.read = decoder.read
    decoder.read(VIDEO, SAMPLING, FRAMING, Limits())
    (reader,) = children_of(decoder)
    os.kill(reader, signal.SIGSTOP)
    replies = service.answer([{"body": VIDEO}] * 3, ["a", "b", "c"]).replies
    assert [reply.status for reply in replies] == [413, 200, 200]


def test_a_reader_or_its_parent_that_dies_is_replaced(decoder: Decoder) -> None:
    decoder.read(VIDEO, SAMPLING, FRAMING, Limits())
    (reader,) = children_of(decoder)
    kill(reader)
    assert decoder.read(VIDEO, SAMPLING, FRAMING, Limits()).info.frames == 12
    assert decoder._starter is not None
    (reader,) = children_of(decoder)
    decoder._starter.kill()
    decoder._starter.wait()
    kill(reader)
    assert decoder.read(VIDEO, SAMPLING, FRAMING, Limits()).info.frames == 12


def test_nothing_is_left_when_the_worker_closes_or_goes() -> None:
    own = Decoder()
    own.read(VIDEO, SAMPLING, FRAMING, Limits())
    assert own._starter is not None
    processes = [os.pidfd_open(each) for each in (*children_of(own), own._starter.pid)]
    own.close()
    for process in processes:
        wait_until_ended(process)


def test_the_process_holds_neither_models_nor_the_operators_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VIDEOPURE_OPERATOR_KEY_FILE", "/nowhere")
    own = Decoder()
    try:
        own.read(VIDEO, SAMPLING, FRAMING, Limits())
        assert own._starter is not None
        environment = Path(f"/proc/{own._starter.pid}/environ").read_bytes()
        loaded = Path(f"/proc/{own._starter.pid}/maps").read_text()
    finally:
        own.close()
    assert b"VIDEOPURE_OPERATOR_KEY_FILE" not in environment
    assert "libavcodec" in loaded
    assert "cv2" not in loaded


def children_of(decoder: Decoder) -> set[int]:
    """Readers of a decoder that live."""
    assert decoder._starter is not None
    parent = decoder._starter.pid
    told = Path(f"/proc/{parent}/task/{parent}/children")
    return set(map(int, told.read_text().split()))


def kill(process: int) -> None:
    descriptor = os.pidfd_open(process)
    os.kill(process, signal.SIGKILL)
    wait_until_ended(descriptor)


def wait_until_ended(descriptor: int) -> None:
    """Wait for a process by its descriptor, whether or not its parent asks how it ended."""
    try:
        told, _, _ = select.select([descriptor], [], [], 120)
        assert told, Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    finally:
        os.close(descriptor)
