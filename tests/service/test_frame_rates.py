"""Frame rates that containers leave out or state wrongly: what counts is when the frames show."""

import random
from collections.abc import Callable
from fractions import Fraction

import pytest

from tests.media import decode, decode_request, encode, numbered_frames, remux

COUNT = 90
FRAMES = numbered_frames(COUNT, 48, 64)
# 8 frames over 32 of 90: from (90 - 32) / 2 on, each 31 / 7 after the one before, rounded down.
MIDDLE_CLIP = (29, 33, 37, 42, 46, 51, 55, 60)
# The same over 32000 / 1001 frames: at 30000 / 1001 a second.
NTSC_CLIP = (29, 33, 37, 42, 46, 51, 55, 59)


def without_default_duration(content: bytes) -> bytes:
    """Return the Matroska file without DefaultDuration (RFC 9559, 5.1.4.1.13), as browsers' recorders write it."""
    assert content.count(b"\x23\xe3\x83") == 1
    at = content.index(b"\x23\xe3\x83")
    size = content[at + 3] & 0x7F
    # An empty element of the same length takes its place; its own head has 2 bytes, the other's 4.
    return content[:at] + bytes([0xEC, 0x80 | size + 2]) + bytes(size + 2) + content[at + 4 + size :]


def jittered(step: float, deviation: float) -> list[int]:
    """Return ascending time stamps in milliseconds."""
    rng = random.Random(0)
    stamps = [0]
    while len(stamps) < COUNT:
        stamps.append(stamps[-1] + max(5, round(rng.gauss(step, deviation))))
    return stamps


@pytest.mark.parametrize(("container", "codec"), [("webm", "libvpx"), ("webm", "libvpx-vp9"), ("matroska", "libx264")])
@pytest.mark.parametrize(
    "milliseconds",
    [jittered(33.3, 6), jittered(66.7, 20), [round(number * 1000 / 25) for number in range(COUNT)]],
    ids=["30 a second", "15 a second", "25 a second, even"],
)
def test_recording_that_states_no_rate_has_the_one_of_its_time_stamps(
    container: str, codec: str, milliseconds: list[int]
) -> None:
    options = {"deadline": "realtime"} if "vpx" in codec else {"bf": "0"}
    made = encode(FRAMES, container, codec, 1000, options, stamps=milliseconds)
    result, _ = decode(without_default_duration(made), decode_request(crop=(48, 48), resize=48))
    seconds = milliseconds[-1] / 1000
    assert result.media.frames == COUNT
    assert result.media.fps == pytest.approx((COUNT - 1) / seconds, abs=0.001)
    assert result.media.duration_seconds == pytest.approx(seconds * COUNT / (COUNT - 1), abs=0.001)
    # 8 x 4 frames at 30 a second, from the first frame of the span to its last.
    frame = seconds / (COUNT - 1)
    first, *_, last = (milliseconds[number] / 1000 for number in result.views[0].frames)
    assert last - first == pytest.approx(32 / 30 - frame, abs=2 * frame)


def copied(codec: str, source: str, target: str, fps: Fraction = Fraction(30)) -> Callable[[], bytes]:
    options = {"deadline": "realtime"} if "vpx" in codec else None
    return lambda: remux(
        encode(FRAMES, source, codec, fps, options),  # type: ignore[arg-type]
        target,
        lambda *_: True,
    )


@pytest.mark.parametrize(
    ("copy", "fps", "clip"),
    [
        (copied("mpeg4", "mp4", "avi"), 30, MIDDLE_CLIP),
        (copied("mpeg2video", "matroska", "avi"), 30, MIDDLE_CLIP),
        (copied("libvpx-vp9", "webm", "avi"), 30, MIDDLE_CLIP),
        (copied("mpeg4", "mp4", "matroska", Fraction(30000, 1001)), 29.97, NTSC_CLIP),
        (copied("mpeg4", "mp4", "avi", Fraction(30000, 1001)), 29.97, NTSC_CLIP),
    ],
    ids=["MPEG-4 in AVI", "MPEG-2 in AVI", "VP9 in AVI", "NTSC in Matroska", "NTSC in AVI"],
)
def test_stream_that_was_copied_has_the_rate_and_the_clips_of_the_original(
    copy: Callable[[], bytes], fps: float, clip: tuple[int, ...]
) -> None:
    result, _ = decode(copy(), decode_request(crop=(48, 48), resize=48))
    assert result.media.fps == fps
    assert result.views[0].frames == clip


def test_rate_of_before_frames_were_dropped_does_not_count() -> None:
    halved = encode(FRAMES, "matroska", stamps=range(0, 2 * COUNT, 2))
    result, _ = decode(halved, decode_request(crop=(48, 48), resize=48))
    assert result.media.fps == pytest.approx(15, abs=0.01)


def test_rate_in_the_headers_of_a_stream_does_not_count_against_its_time_stamps() -> None:
    stamps = [number + number * number // 17 for number in range(COUNT)]
    result, _ = decode(encode(FRAMES, "mpegts", stamps=stamps), decode_request(crop=(48, 48), resize=48))
    assert result.media.fps == pytest.approx((COUNT - 1) / (stamps[-1] / 30), abs=0.001)


@pytest.mark.parametrize("container", ["mpegts", "flv", "matroska"])
def test_gap_in_a_live_recording_leaves_its_rate_alone(container: str) -> None:
    stamps = [*range(45), *range(645, 690)]
    result, _ = decode(encode(FRAMES, container, stamps=stamps), decode_request(crop=(48, 48), resize=48))
    assert result.media.fps == 30
    assert result.views[0].frames == MIDDLE_CLIP


def test_nobody_knows_the_rate_of_a_single_frame() -> None:
    made = without_default_duration(encode(FRAMES[:1], "webm", "libvpx", 1000, stamps=[0]))
    media = decode(made, decode_request(crop=(48, 48), resize=48))[0].media
    assert (media.frames, media.fps, media.duration_seconds) == (1, None, None)
