"""Recordings whose clock begins anew or jumps: one behind the other in a file, as broadcasts and DVDs are cut."""

import io
from collections.abc import Callable

import numpy as np
import pytest

from service.media.frames import read_frames
from service.media.pictures import frames_at
from tests.media import LIMITS, decode, decode_all, decode_request, encode, numbered_frames, pick
from tests.service.test_frames import cut, cut_at_second_keyframe, equal, samplings

COUNT = 60
FRAMES = numbered_frames(COUNT, 48, 64)
BACKWARDS = np.ascontiguousarray(FRAMES[::-1])
HOUR = 3600 * 30
SMALL = {"crop": (48, 48), "resize": 48}
X264 = {"x264-params": "scenecut=0:b-adapt=0:keyint=20:min-keyint=20", "bf": "2"}
NO_B_FRAMES = {"g": "15", "bf": "0", "sc_threshold": "0"}
PACKET = 188


def in_a_row(*parts: bytes) -> bytes:
    """Return transport streams one behind the other, with counters that tell of no loss (ISO/IEC 13818-1, 2.4.3.3)."""
    stream = bytearray(b"".join(parts))
    counters: dict[int, int] = {}
    for start in range(0, len(stream), PACKET):
        channel = int.from_bytes(stream[start + 1 : start + 3], "big") & 0x1FFF
        has_content = stream[start + 3] >> 4 & 1
        counters[channel] = counters.get(channel, -1) + has_content & 15
        stream[start + 3] = stream[start + 3] & 0xF0 | counters[channel]
    return bytes(stream)


def part(
    frames: np.ndarray, options: dict[str, str], codec: str = "libx264", container: str = "mpegts", later: int = 0
) -> bytes:
    """Return frames at 30 a second whose clock begins so many of them later."""
    return encode(frames, container, codec, 30, options, stamps=[later + number for number in range(len(frames))])


def hevc(later: int = 0) -> bytes:
    return part(FRAMES, {"x265-params": "log-level=none:keyint=15:bframes=3"}, "libx265", later=later)


def mpeg2(container: str) -> bytes:
    return part(FRAMES, {"g": "12", "bf": "2"}, "mpeg2video", container)


JOINED: dict[str, Callable[[], bytes]] = {
    "as they are": lambda: part(FRAMES, NO_B_FRAMES) + part(BACKWARDS, NO_B_FRAMES),
    "without a sign of it": lambda: in_a_row(part(FRAMES, NO_B_FRAMES), part(BACKWARDS, NO_B_FRAMES)),
    "reordered": lambda: in_a_row(part(FRAMES, X264), part(BACKWARDS, X264)),
    "far ahead": lambda: in_a_row(part(FRAMES, X264), part(BACKWARDS, X264, later=20 * HOUR)),
    "far back": lambda: in_a_row(part(FRAMES, X264, later=20 * HOUR), part(BACKWARDS, X264)),
    "an hour ahead and back": lambda: in_a_row(
        part(FRAMES, X264, later=HOUR), part(BACKWARDS, X264, later=2 * HOUR), part(FRAMES, X264, later=HOUR)
    ),
    "within the first part": lambda: in_a_row(part(FRAMES, X264), part(BACKWARDS, X264, later=COUNT // 2)),
    "hevc": lambda: in_a_row(hevc(), hevc()),
    "mpeg2": lambda: in_a_row(mpeg2("mpegts"), mpeg2("mpegts")),
    "mpeg2, program stream": lambda: mpeg2("mpeg") + mpeg2("mpeg"),
}


@pytest.mark.parametrize("name", JOINED)
def test_parts_follow_each_other(name: str) -> None:
    content = JOINED[name]()
    full = decode_all(content)
    assert len(full) % COUNT == 0
    for sampling, wanted in samplings(len(full)).items():
        frames, count, _ = pick(content, wanted)
        assert count == len(full), sampling
        assert equal(frames, full), sampling
    index = read_frames(io.BytesIO(content), LIMITS, lambda source: source.index)
    times = [float(index.time(number)) for number in range(len(index))]
    assert times == pytest.approx([number / 30 for number in range(len(full))], abs=0.001)
    assert (index.fps, index.duration) == (30, pytest.approx(len(full) / 30, abs=0.001))
    assert frames_at(index, None, None, 2.0) == list(range(0, len(full), 15))
    late = decode(content, decode_request(**SMALL, start=3.0))[0]
    assert set(late.views[0].frames) <= set(range(90, len(full)))


def test_part_behind_a_jump_is_decoded_from_the_keyframe_before_it() -> None:
    # Keyframes at 60, 75, 90 and 105: from 90 to 100.
    assert pick(JOINED["without a sign of it"](), [100])[2] == 11


def joined_in_a_gop() -> bytes:
    return in_a_row(part(FRAMES, X264), cut(part(BACKWARDS, X264), "mpegts", 30))


def joined_at_an_open_gop(codec: str, options: dict[str, str]) -> bytes:
    whole = part(FRAMES, options, codec)
    return in_a_row(whole, cut_at_second_keyframe(whole, "mpegts"))


def joined_with_another_order() -> bytes:
    return in_a_row(part(FRAMES, X264), part(BACKWARDS, NO_B_FRAMES))


def overlapping(options: dict[str, str], codec: str = "libx264") -> bytes:
    """Return parts of 0.4 seconds, the second one between the time stamps of the first: too near for a jump."""

    def half_frames(frames: np.ndarray, first: int) -> bytes:
        return encode(frames, "mpegts", codec, 60, options, stamps=[first + 2 * number for number in range(12)])

    return in_a_row(half_frames(FRAMES[:12], 0), half_frames(BACKWARDS[:12], 1))


@pytest.mark.parametrize(
    "make",
    [
        joined_in_a_gop,
        lambda: joined_at_an_open_gop("libx264", {"x264-params": "keyint=20:open-gop=1:bframes=3"}),
        lambda: joined_at_an_open_gop("libx265", {"x265-params": "log-level=none:keyint=20:open-gop=1:bframes=3"}),
        joined_with_another_order,
        lambda: overlapping(NO_B_FRAMES),
        lambda: overlapping({"bf": "0", "g": "4"}),
        lambda: overlapping({"bf": "2", "g": "4"}),
        lambda: overlapping({"x265-params": "log-level=none:keyint=4:bframes=0"}, "libx265"),
    ],
    ids=[
        "within a GOP",
        "open GOP",
        "open GOP, hevc",
        "another order",
        "overlapping",
        "short GOPs",
        "B-frames",
        "hevc",
    ],
)
def test_parts_that_do_not_fit_are_decoded_as_one(make: Callable[[], bytes]) -> None:
    content = make()
    full = decode_all(content)
    for wanted in (*([number] for number in range(len(full))), range(0, len(full), 7), range(len(full))):
        frames, count, _ = pick(content, wanted)
        assert count == len(full), wanted
        assert equal(frames, full), wanted


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_recording_that_stands_still_keeps_its_times(container: str) -> None:
    stamps = [*range(30), *range(1800, 1830)]
    content = encode(FRAMES, container, stamps=stamps)
    index = read_frames(io.BytesIO(content), LIMITS, lambda source: source.index)
    assert float(index.time(30)) == pytest.approx(60, abs=0.01)


def test_slow_broadcast_keeps_its_times() -> None:
    content = encode(FRAMES[:20], "mpegts", stamps=range(0, 20 * 360, 360))
    index = read_frames(io.BytesIO(content), LIMITS, lambda source: source.index)
    assert [float(index.time(number)) for number in range(20)] == pytest.approx([12 * number for number in range(20)])
