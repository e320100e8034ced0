"""The benchmark of decoding: whoever is measured gives the frames that are asked for."""

import numpy as np
import pytest

from bench.clips import ENCODINGS, FPS, make_clip
from bench.decoding import full, look, measure, planned, seeking
from demo.clips import encode_frames, generate_clip, h264
from demo.shapes import LABELS

RUNNERS = {"service": planned, "full decode": full, "seeking": seeking}
WANTED = [3, 10, 11, 30]


@pytest.fixture(scope="module")
def content() -> bytes:
    return encode_frames(generate_clip(1, LABELS.index("rotating clockwise")).frames, FPS, h264(23))


def one_too_late(content: bytes, wanted: list[int]) -> tuple[dict[int, np.ndarray], int]:
    frames, decoded = full(content, [number + 1 for number in wanted])
    return {number - 1: frame for number, frame in frames.items()}, decoded


def test_all_are_measured_with_the_same_frames(content: bytes) -> None:
    seen = look(RUNNERS, content, WANTED)
    assert [each.wrong for each in seen.values()] == [[], [], []]
    assert all(each.decoded >= len(WANTED) for each in seen.values())
    assert measure(RUNNERS, content, WANTED, 1).keys() == RUNNERS.keys()


def test_other_frames_are_counted_and_of_the_service_an_end(content: bytes) -> None:
    assert look({**RUNNERS, "seeking": one_too_late}, content, WANTED)["seeking"].wrong == WANTED
    with pytest.raises(SystemExit, match=r"^the service gives other frames .* \[3, 10, 11, 30\]$"):
        look({**RUNNERS, "service": one_too_late}, content, WANTED)


def test_seeking_finds_frames_that_are_shown_before_the_keyframe_that_is_stored_before_them() -> None:
    content, wanted = make_clip(ENCODINGS["HEVC, encoder's defaults"]), [247, 248, 249, 250]
    assert look(RUNNERS, content, wanted)["seeking"].wrong == []
