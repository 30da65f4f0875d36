"""Decoding real files of several containers and codecs, and refusing what is none."""

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.damage import (
    endless_index,
    inflated_header,
    lying_pictures,
    referring_movie,
    resized_gif,
)
from tests.support.hostile import packed_header
from tests.support.videos import encode, encode_hevc, frames
from videopure.format.settings import Limits
from videopure.handler.errors import NotAVideoError, TooLargeError, UnusableVideoError
from videopure.handler.video import Clip, read_clip, reading

pytestmark = pytest.mark.unit

SIZE = (32, 48)


def read(data: bytes, num_frames: int = 8, **limits: float) -> Clip:
    return read_clip(data, num_frames, SIZE, Limits(**limits))


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mp4", "libx265", "yuv420p"),
        ("mp4", "libsvtav1", "yuv420p"),
        ("matroska", "libx264", "yuv420p10le"),
        ("mov", "mpeg4", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("matroska", "libx264", "yuv444p"),
        ("matroska", "ffv1", "gray"),
        ("mov", "png", "rgba"),
        ("gif", "gif", "rgb8"),
        ("mpegts", "mpeg2video", "yuv420p"),
    ],
)
def test_containers_and_codecs_are_read(container: str, codec: str, pix_fmt: str) -> None:
    pixels = frames(8, *SIZE)
    fps = 25 if codec == "mpeg2video" else 8
    if codec == "libx265":
        data = encode_hevc(pixels)
    else:
        data = encode(pixels, container, codec, pix_fmt, fps=fps)
    clip = read(data)
    assert clip.frames.shape == (8, 3, *SIZE)
    assert clip.info.frames == 8
    assert clip.info.frame_indices == list(range(8))
    assert (clip.info.width, clip.info.height) == (48, 32)
    # GIF counts time in hundredths of a second.
    assert clip.info.fps == pytest.approx(fps, rel=0.05)
    assert clip.info.duration_s == pytest.approx(8 / fps, rel=0.05)
    assert clip.warnings == []
    # The frames come in order and look like what went in.
    brightness = clip.frames.mean((1, 2, 3)).numpy() * 255
    np.testing.assert_allclose(brightness, pixels.mean((1, 2, 3)), atol=12)
    assert (np.diff(brightness) > 0).all()


def test_lossless_pixels_of_the_right_size_are_untouched() -> None:
    pixels = frames(4, *SIZE)
    clip = read(encode(pixels, "matroska", "libx264rgb", "rgb24", crf="0"), num_frames=4)
    restored = (clip.frames * 255).round().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(restored, pixels)


def test_frames_are_spread_evenly_over_a_longer_video() -> None:
    clip = read(encode(frames(40, *SIZE)), num_frames=4)
    assert clip.info.frames == 40
    assert clip.info.frame_indices == [5, 15, 25, 35]


def test_a_short_video_repeats_its_frames_and_says_so() -> None:
    clip = read(encode(frames(2, *SIZE)), num_frames=4)
    assert clip.info.frame_indices == [0, 0, 1, 1]
    assert clip.warnings == ["the video has 2 frames and 4 are used: frames are repeated evenly"]


def test_other_sizes_are_scaled_and_cropped() -> None:
    clip = read(encode(frames(4, 120, 90)), num_frames=4)
    assert clip.frames.shape == (4, 3, *SIZE)
    assert (clip.info.width, clip.info.height) == (90, 120)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"just some text, nothing more\n" * 20, "not a video of a supported container"),
        (b"\x00" * 4096, "not a video of a supported container"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "a playlist"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "a playlist"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 64, "a PNG picture"),
    ],
    ids=["text", "zeros", "playlist", "concat", "image"],
)
def test_what_is_no_video_is_refused_as_such(data: bytes, words: str) -> None:
    with pytest.raises(NotAVideoError, match=f"the {len(data)} bytes sent are {words}"):
        read(data)


def test_empty_body_is_refused() -> None:
    with pytest.raises(UnusableVideoError, match="holds 0 bytes"):
        read(b"")


@pytest.mark.parametrize("movflags", ["", "faststart"], ids=["index-last", "index-first"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.8])
def test_truncated_video_is_refused(movflags: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, *SIZE, 3), dtype=np.uint8)
    data = encode(noise, movflags=movflags)
    assert (data.index(b"moov") < data.index(b"mdat")) == bool(movflags)
    with pytest.raises(UnusableVideoError, match="damaged or cut short"):
        read(data[: int(len(data) * share)])


def test_truncated_stream_without_an_announced_length_is_what_it_is() -> None:
    """A cut mpegts is a valid shorter mpegts: there is nothing to compare with."""
    data = encode(frames(50, *SIZE), "mpegts", "mpeg2video", fps=25)
    clip = read(data[: len(data) // 2])
    assert 0 < clip.info.frames < 50


def test_a_tiny_video_is_refused() -> None:
    with pytest.raises(UnusableVideoError, match=r"too small.*1x1 pixels, at least 8x8"):
        read(encode(frames(4, 1, 1), "matroska", "ffv1", "gray"))


def test_sound_alone_is_refused() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    with pytest.raises(NotAVideoError, match="has no video stream"):
        read(buffer.getvalue())


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_bytes": 100}, "bytes, more than the 100 allowed"),
        ({"max_seconds": 0.5}, "1 seconds, more than the 0.5 allowed"),
        ({"max_frames": 5}, "6 frames, more than the 5 allowed"),
        ({"max_frames": 3}, "8 frames, more than the 3 allowed"),
        ({"max_pixels": 1000}, "1536 pixels a frame, more than the 1000 allowed"),
        ({"max_decode_seconds": 1e-9}, "longer than the 1e-09 s allowed"),
    ],
)
def test_limits_are_kept(limits: dict[str, float], message: str) -> None:
    with pytest.raises(TooLargeError, match=message):
        read(encode(frames(8, *SIZE)), **limits)


def test_frames_are_counted_where_the_header_is_silent() -> None:
    with pytest.raises(TooLargeError, match="6 frames, more than the 5 allowed"):
        read(encode(frames(8, *SIZE), "matroska"), max_frames=5)


def test_what_an_edit_list_cuts_away_is_not_missing() -> None:
    """Phones trim a video by its edit list: the frames before stay in the file, unseen."""
    untouched = encode(frames(40, *SIZE))
    data = bytearray(untouched)
    entry = data.index(b"elst") + 12
    duration, start, rate = struct.unpack(">IiI", data[entry : entry + 12])
    (timescale,) = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)
    half = struct.pack(">IiI", duration // 2, start + timescale * 20 // 8, rate)
    data[entry : entry + 12] = half
    clip = read(bytes(data))
    assert clip.info.frames == 20
    assert clip.info.duration_s == 2.5
    assert clip.warnings == []
    whole = read(untouched, num_frames=40)
    seen = [20 + index for index in clip.info.frame_indices]
    np.testing.assert_allclose(clip.frames, whole.frames[seen], atol=0.02)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_video_is_set_upright(turns: int) -> None:
    pixels = frames(8, *SIZE)
    data = bytearray(encode(np.rot90(pixels, -turns, axes=(1, 2)).copy()))
    # The matrix of the track header, for a display turned counterclockwise.
    cos, sin = ((0, -1), (-1, 0), (0, 1))[turns - 1]
    matrix = (cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *matrix)
    clip = read(bytes(data))
    assert (clip.info.width, clip.info.height) == (48, 32)
    np.testing.assert_allclose(clip.frames, read(encode(pixels)).frames, atol=0.05)


def test_a_song_with_a_cover_picture_is_no_video() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        sound = output.add_stream("aac", rate=44100)
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(frames(1, 32, 32)[0], format="rgb24")
        output.mux(cover.encode(picture.reformat(format="yuvj420p")))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        output.mux(sound.encode(silence))
        output.mux(sound.encode(None))
        output.mux(cover.encode(None))
    with pytest.raises(NotAVideoError, match="has no video stream"):
        read(buffer.getvalue())


def test_metadata_in_other_encodings_than_utf8_are_no_fault() -> None:
    data = encode(frames(8, *SIZE), "avi", "mpeg4")
    assert b"Lavf" in data
    clip = read(data.replace(b"Lavf", b"L\xe4vf"))
    assert clip.info.frames == 8


def test_an_unknown_codec_is_refused() -> None:
    data = encode(frames(8, *SIZE)).replace(b"avc1", b"zzzz")
    with pytest.raises(UnusableVideoError, match="codec is unknown"):
        read(data)


def test_frames_larger_than_the_header_admits_are_not_decoded() -> None:
    """The size changes in mid-stream; the header, and what is probed with it, tell the first."""
    small, large = (
        encode(frames(50, *size), "mpegts", "mpeg2video", fps=25) for size in (SIZE, (320, 480))
    )
    with pytest.raises(UnusableVideoError):
        read(small * 5 + large, max_pixels=2000)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_frames_of_variable_length_are_sampled_by_number(container: str) -> None:
    """As recognisers are trained: evenly by the frames there are, however long each is shown."""
    pixels = frames(8, *SIZE)
    begins = (0, 40, 80, 120, 1000, 1500, 1510, 1900)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream("libx264", rate=1000)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, milliseconds in zip(pixels, begins, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = milliseconds
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    clip = read(buffer.getvalue())
    assert clip.info.frames == 8
    assert clip.info.frame_indices == list(range(8))
    assert clip.info.duration_s == pytest.approx(1.9, abs=0.3)
    assert clip.info.fps == pytest.approx(8 / 1.9, rel=0.2)
    brightness = clip.frames.mean((1, 2, 3)).numpy() * 255
    np.testing.assert_allclose(brightness, pixels.mean((1, 2, 3)), atol=12)


@pytest.mark.parametrize("size", [(33, 47), (32, 49), (101, 64)])
def test_odd_sizes_are_read(size: tuple[int, int]) -> None:
    clip = read(encode(frames(4, *size), "matroska", "ffv1", "bgr0"), num_frames=4)
    assert (clip.info.height, clip.info.width) == size
    assert clip.frames.shape == (4, 3, *SIZE)


def test_what_shines_through_is_black() -> None:
    """Alpha is dropped as players without a background do; what was coded under it is seen."""
    pixels = frames(4, *SIZE)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as output:
        stream = output.add_stream("png", rate=8)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "rgba"
        for image in pixels:
            alpha = np.full((*SIZE, 1), 128, np.uint8)
            frame = av.VideoFrame.from_ndarray(np.concatenate((image, alpha), 2), format="rgba")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    restored = (read(buffer.getvalue(), num_frames=4).frames * 255).round().permute(0, 2, 3, 1)
    np.testing.assert_allclose(restored.numpy(), pixels, atol=2)


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_hours_are_refused_from_the_header(container: str) -> None:
    """A picture a quarter of an hour: few bytes, few frames, many hours."""
    codec = "mpeg4" if container == "avi" else "libx264"
    data = encode(frames(8, *SIZE), container, codec, fps=Fraction(1, 900))
    with pytest.raises(TooLargeError, match="7200 seconds, more than the 600"):
        read(data, max_seconds=600)


def test_hours_that_the_header_does_not_tell_are_refused_before_decoding() -> None:
    """A GIF has no length in its header; an mp4's header may say less than its frames' times."""
    gif = bytearray(encode(frames(8, *SIZE), "gif", "gif", "rgb8"))
    at = gif.find(b"\x21\xf9\x04")
    while at >= 0:
        struct.pack_into("<H", gif, at + 4, 0xFFFF)  # 655 seconds
        at = gif.find(b"\x21\xf9\x04", at + 1)
    with pytest.raises(TooLargeError, match=r"5\d\d\d.* seconds, more than the 600"):
        read(bytes(gif), max_seconds=600)


def test_ten_thousand_pixels_square_are_refused_from_the_header() -> None:
    still = resized_gif(encode(frames(2, *SIZE), "gif", "gif", "rgb8"), 10_000, 10_000)
    with pytest.raises(TooLargeError, match="more pixels a frame than the 9437184 allowed"):
        read(still)


def test_pictures_larger_than_the_header_says_are_not_decoded() -> None:
    """Not even while the file is opened, when libav looks at the first frame."""
    with pytest.raises(TooLargeError, match="more pixels a frame than the 1000000 allowed"):
        read(lying_pictures(2_000, 1_000), max_pixels=1_000_000)


def test_memory_that_a_file_asks_for_is_bounded() -> None:
    """A few hundred bytes announce gigabytes: they are not allocated, and the next file is read."""
    mp4 = encode(frames(8, *SIZE))
    with pytest.raises(TooLargeError):
        read(endless_index(mp4, 170_000_000))
    assert read(mp4, max_decode_memory=256 * 1024**2).info.frames == 8
    # Frames of more than 32 MiB: glibc's malloc would find room for smaller ones in freed memory.
    large = encode(frames(2, 2400, 3600), "matroska", "ffv1", "bgr0")
    with pytest.raises(TooLargeError, match="more memory than the 1000000 bytes allowed"):
        read(large, max_decode_memory=1_000_000)
    assert read(large).info.width == 3600


def test_a_compressed_header_is_not_unpacked() -> None:
    with pytest.raises(NotAVideoError, match="compressed header"):
        read(inflated_header(2))
    with pytest.raises(NotAVideoError, match="compressed header"):
        read(packed_header(2))


def test_frames_that_lie_in_another_file_are_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, secret = frames(8, *SIZE), 255 - frames(8, *SIZE)
    other, movie = tmp_path / "secret.mov", tmp_path / "movie.mov"
    other.write_bytes(encode(secret, "mov", "rawvideo", "rgb24"))
    data = referring_movie(encode(own, "mov", "rawvideo", "rgb24"), str(other))
    with pytest.raises(UnusableVideoError, match="0 of 8 frames could be"):
        read(data)
    # Not even where another setting lets names of files through.
    trusting = {"enable_drefs": "1", "use_absolute_path": "1"}
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)  # the name is looked up beside the movie, which lies nowhere
        patch.setattr(reading, "_OPEN_OPTIONS", {**reading._OPEN_OPTIONS, **trusting})
        with pytest.raises(UnusableVideoError, match="0 of 8 frames could be"):
            read(data)
    # libav, told to, does fetch them.
    movie.write_bytes(data)
    with av.open(str(movie), options=trusting) as container:
        seen = next(container.decode(video=0)).to_ndarray(format="rgb24")
    np.testing.assert_array_equal(seen, secret[0])
