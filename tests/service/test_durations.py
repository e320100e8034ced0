"""How long the last frame of a video shows: as its container says of it, or as long as an average one."""

import io
import struct
from collections.abc import Sequence
from fractions import Fraction

import av
import pytest
from PIL import Image

from service.errors import BadParameterError, MediaLimitError
from tests.media import LIMITS, decode, decode_request, encode, numbered_frames

COUNT = 90
FRAMES = numbered_frames(COUNT, 48, 64)
SMALL = {"crop": (48, 48), "resize": 48}


def animation(kind: str, milliseconds: Sequence[int]) -> bytes:
    file = io.BytesIO()
    first, *others = (Image.fromarray(pixels) for pixels in FRAMES[: len(milliseconds)])
    first.save(file, kind, save_all=True, append_images=others, duration=list(milliseconds))
    return file.getvalue()


def with_last_frame_of(seconds: int, b_frames: int, stamps: Sequence[int], container: str = "mp4") -> bytes:
    """Return a video at 30 frames a second whose last frame, in the order of decoding, lasts that long."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("libx264", rate=30, options={"bf": str(b_frames), "b_strategy": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        packets = []
        for pixels, stamp in zip(FRAMES, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 30)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        packets[-1].duration = int(seconds / packets[-1].time_base)
        output.mux(packets)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_animation_lasts_as_long_as_its_frames(kind: str) -> None:
    content = animation(kind, [40, 5000, 40, 100, 400])
    media = decode(content, decode_request(**SMALL))[0].media
    assert (media.frames, media.duration_seconds) == (5, 5.58)
    part = decode(content, decode_request(**SMALL, start=1.0, end=4.0))[0]
    assert set(part.views[0].frames) == {1}
    last = decode(content, decode_request(**SMALL, start=5.57))[0]
    assert set(last.views[0].frames) == {4}
    with pytest.raises(BadParameterError, match=r"start=5\.58: no frame shows then; the video's length is 5\.580 s"):
        decode(content, decode_request(**SMALL, start=5.58))


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_last_frame_of_an_mp4_file_shows_as_long_as_its_table_says(container: str, b_frames: int) -> None:
    media = decode(with_last_frame_of(60, b_frames, range(COUNT), container), decode_request(**SMALL))[0].media
    # The container's average is what the papers' loaders take.
    assert media.fps == pytest.approx(COUNT / (89 / 30 + 60), abs=0.01)
    assert media.duration_seconds == pytest.approx(89 / 30 + 60, abs=0.001)


@pytest.mark.parametrize("gap", [86, 87, 88, 89])
def test_gap_before_the_last_frames_is_not_taken_for_their_duration(gap: int) -> None:
    stamps = [number + 900 * (number >= gap) for number in range(COUNT)]
    media = decode(with_last_frame_of(2, 2, stamps), decode_request(**SMALL))[0].media
    # The muxer counts no more than the order of decoding: it may lack the last gaps.
    assert media.duration_seconds is not None
    assert 989 / 30 < media.duration_seconds < 989 / 30 + 2.001


def test_long_last_frame_counts_against_the_limit() -> None:
    request = decode_request(**SMALL, limits=LIMITS.model_copy(update={"max_seconds": 60}))
    with pytest.raises(MediaLimitError, match=r"the video lasts 63\.0 s; the limit is 60 s"):
        decode(with_last_frame_of(60, 0, range(COUNT)), request)


def flv_that_says(rate: float) -> bytes:
    made = encode(FRAMES, "flv")
    place = made.index(b"framerate") + len(b"framerate") + 1
    return made[:place] + struct.pack(">d", rate) + made[place + 8 :]


def matroska_that_says(rate: int, container: str = "matroska", codec: str = "libx264") -> bytes:
    """Return a file with another DefaultDuration (RFC 9559, 5.1.4.1.13)."""
    made = encode(FRAMES, container, codec)
    place = made.index(b"\x23\xe3\x83") + 4
    size = made[place - 1] & 0x7F
    return made[:place] + (10**9 // rate).to_bytes(size, "big") + made[place + size :]


@pytest.mark.parametrize(
    "content",
    [flv_that_says(5), flv_that_says(1), matroska_that_says(5), matroska_that_says(10, "webm", "libvpx")],
    ids=["FLV, 5", "FLV, 1", "Matroska, 5", "WebM, 10"],
)
def test_rate_that_is_far_too_low_does_not_count_against_the_time_stamps(content: bytes) -> None:
    media = decode(content, decode_request(**SMALL))[0].media
    assert media.fps == pytest.approx(30, abs=0.1)
    assert media.duration_seconds == pytest.approx(3, abs=0.01)
