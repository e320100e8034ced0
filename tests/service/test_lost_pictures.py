"""Recordings whose first pictures are lost, with time stamps that do not tell in which order they are shown."""

import io
from collections.abc import Callable

import av
import pytest

from tests.media import decode_all, keyframes, pick, remux
from tests.service.test_frames import COUNT, cut, equal, h264, hevc, samplings, stamps_of_decoding

CLOSED = "bframes=3:b-pyramid=normal"
OPEN = "open-gop=1:bframes=3"
OPEN_PYRAMID = "open-gop=1:bframes=7:b-pyramid=normal:ref=4"


def copied(content: bytes, container: str) -> bytes:
    return remux(content, container, lambda *_: True)


def from_keyframe(content: bytes, container: str) -> bytes:
    return cut(content, container, keyframes(content)[1])


@pytest.mark.parametrize(
    ("make", "lost"),
    [
        # The first GOP of 20 pictures loses its keyframe, and with it the 17 that are left.
        (lambda: cut(h264(CLOSED, "avi"), "avi", 3), 17),
        (lambda: copied(cut(h264(CLOSED, "avi"), "avi", 3), "mp4"), 17),
        (lambda: copied(cut(h264(CLOSED, "avi"), "avi", 3), "matroska"), 17),
        (lambda: copied(cut(h264(CLOSED, "avi"), "avi", 3), "mpegts"), 17),
        # Three B-frames that are shown before the keyframe refer to what is before it in the file.
        (lambda: from_keyframe(h264(OPEN, "avi"), "avi"), 3),
        (lambda: from_keyframe(h264(OPEN_PYRAMID, "avi"), "avi"), 3),
        (lambda: from_keyframe(stamps_of_decoding(hevc(OPEN), "matroska"), "matroska"), 3),
        (lambda: from_keyframe(h264(CLOSED, "avi"), "avi"), 0),
    ],
    ids=[
        *("within a GOP, avi", "within a GOP, mp4", "within a GOP, matroska", "within a GOP, mpegts"),
        *("at an open GOP", "at an open GOP with a pyramid", "at an open GOP of HEVC", "at a closed GOP"),
    ],
)
def test_frames_are_those_that_come_out(make: Callable[[], bytes], lost: int) -> None:
    content = make()
    full = decode_all(content)
    with av.open(io.BytesIO(content)) as container:
        assert len(full) == sum(packet.size > 0 for packet in container.demux(video=0)) - lost
    for sampling, wanted in samplings(len(full)).items():
        frames, count, _ = pick(content, wanted)
        assert count == len(full), sampling
        assert equal(frames, full), sampling


@pytest.mark.parametrize("make", [lambda: h264(CLOSED, "avi"), lambda: stamps_of_decoding(hevc(), "matroska")])
def test_recording_that_lacks_nothing_is_not_decoded_to_its_end(make: Callable[[], bytes]) -> None:
    frames, count, decoded = pick(make(), [10])
    assert (set(frames), count, decoded) == ({10}, COUNT, 11)
