"""How long a video is, and when its frames are shown: by the frames' own times."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.support.h264_fields import field_pictures
from tests.support.numbered import NUMBERED_SIZE, encoded_packets, mux, numbered_frames, numbers
from tests.support.videos import encode
from videopure.bulk.rewrite import rewrite_video
from videopure.format.settings import Limits
from videopure.handler.errors import TooLargeError
from videopure.handler.video import Clip, read_clip
from videopure.handler.video.clock import Clock
from videopure.purifier import Framing

pytestmark = pytest.mark.unit

FRAMES = numbered_frames(40)


def read(data: bytes, num_frames: int = 8, **limits: float) -> Clip:
    return read_clip(data, num_frames, NUMBERED_SIZE, Limits(**limits))


def timed(
    begins: Sequence[int], container: str = "mp4", codec: str = "libx264", **muxing: str
) -> bytes:
    """Frames that begin at the given milliseconds."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=muxing) as output:
        # MP4 tells the time of the last frame only where frames are coded in the order of showing.
        stream = output.add_stream(codec, rate=1000, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *NUMBERED_SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, milliseconds in zip(FRAMES, begins, strict=False):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def test_a_clock_that_begins_again() -> None:
    joined = encode(FRAMES[:20], "mpegts", fps=10) + encode(FRAMES[20:], "mpegts", fps=10)
    clip = read(joined)
    assert (clip.info.frames, clip.info.fps, clip.info.duration_s) == pytest.approx((40, 10, 4))
    assert numbers(clip.frames) == [2, 7, 12, 17, 22, 27, 32, 37]
    assert clip.warnings == []


@pytest.mark.parametrize("container", ["mpegts", "mpeg"])
def test_a_clock_that_jumps_is_no_pause(container: str) -> None:
    packets, _ = encoded_packets(FRAMES, "mpeg2video", fps=25, bf="0")
    hour = 25 * 3600
    data = mux(packets, container, "mpeg2video", fps=25, pts=lambda n: n if n < 20 else n + hour)
    clip = read(data, max_seconds=10)
    assert clip.info.frames == 40
    assert clip.info.duration_s == pytest.approx(1.6, rel=0.01)


def test_a_pause_is_no_jump() -> None:
    """A slide is shown for a minute: as long as any other container than a broadcast says."""
    clip = read(timed([0, 100, 60_100, 60_200]))
    assert clip.info.duration_s == pytest.approx(60.3, rel=0.01)


def test_a_recording_without_duration_or_rate() -> None:
    """What browsers record, and no one goes back to fill in the header."""

    class Pipe(io.RawIOBase):
        data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    begins = [0, 33, 67, 100, 500, 533, 567, 600, 900, 933, 967, 1000, 1200, 1233, 1300, 1333]
    pipe = Pipe()
    with av.open(pipe, "w", format="webm", options={"live": "1"}) as output:
        stream = output.add_stream("libvpx", rate=30)
        stream.height, stream.width, stream.pix_fmt = *NUMBERED_SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, milliseconds in zip(FRAMES, begins, strict=False):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with av.open(io.BytesIO(pipe.data)) as container:
        assert container.duration is None
    clip = read(pipe.data)
    assert clip.info.frames == 16
    assert clip.info.duration_s == pytest.approx(1.38, abs=0.05)
    assert clip.info.fps == pytest.approx(16 / 1.38, rel=0.05)


def test_field_pictures_last_as_long_as_their_frames() -> None:
    data = mux(field_pictures(FRAMES[:25]), "mpegts", "libx264", fps=50)
    assert read(data).info.duration_s == pytest.approx(1.0)


def test_b_frames_of_an_avi_that_has_no_times_for_them() -> None:
    clip = read(encode(FRAMES, "avi", fps=10, bf="3"))
    assert clip.info.duration_s == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_sampling_is_by_number_or_by_time(container: str) -> None:
    """Ten frames in the first second, one in each of the nine after it."""
    begins = [100 * number for number in range(10)] + [1000 * second for second in range(1, 10)]
    data = timed(begins, container)
    by_number = read_clip(data, 4, NUMBERED_SIZE, Limits())
    assert numbers(by_number.frames) == [2, 7, 11, 16]
    by_time = read_clip(data, 4, Framing(NUMBERED_SIZE, sampling="time"), Limits())
    # The frames shown at 1.1, 3.4, 5.6 and 7.9 of 9 seconds; nobody says how long the last one is.
    assert numbers(by_time.frames) == [10, 12, 14, 16]
    assert by_time.info.frame_indices == [10, 12, 14, 16]


def test_the_limit_in_seconds_goes_by_the_frames_times() -> None:
    data = timed([0, 100, 60_100, 60_200])
    assert read(data, max_seconds=61).info.frames == 4
    with pytest.raises(TooLargeError, match=r"60\.\d+ seconds, more than the 60.0 allowed"):
        read(data, max_seconds=60)


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm"])
def test_a_purified_copy_lasts_as_long(ending: str, tmp_path: Path) -> None:
    begins = [0, 40, 80, 500, 900, 2000]
    source, target = tmp_path / "in.mkv", tmp_path / f"out.{ending}"
    source.write_bytes(timed(begins, "matroska"))
    original = read(source.read_bytes())
    written = rewrite_video(source, target, lambda clips: clips, 4, 8, lambda *done: None)
    copy = read(target.read_bytes())
    assert copy.info.frames == written.frames == 6
    assert copy.info.duration_s == pytest.approx(original.info.duration_s, abs=0.02)
    assert written.seconds == pytest.approx(original.info.duration_s)
    with av.open(target) as container:
        stream = container.streams.video[0]
        shown = [round(1000 * frame.pts * stream.time_base) for frame in container.decode(stream)]
        assert container.duration / av.time_base == pytest.approx(written.seconds, abs=0.01)
    assert [moment - shown[0] for moment in shown] == pytest.approx(begins, abs=1)


def test_a_clock_takes_what_there_is() -> None:
    clock = Clock(Fraction(1, 100), None, joinable=False)
    assert clock.begin(None, None) == 0
    assert clock.seconds == pytest.approx(0.04)  # nothing is known: 25 a second
    assert clock.begin(None, 10) == pytest.approx(0.04)
    assert clock.begin(1_000, 10) == pytest.approx(0.14)  # what the frame before says
    assert clock.begin(1_050, None) == pytest.approx(0.64)  # what the times say
    assert clock.begin(30, None) == pytest.approx(1.14)  # begun again: as the others on average
    assert clock.seconds == pytest.approx(1.64)
