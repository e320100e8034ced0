"""The benchmark of decoding: whoever is measured gives the frames that are asked for."""

import numpy as np
import pytest

from bench.clips import FPS
from bench.decoding import decoded_frames, full, measure, planned, seeking
from demo.clips import encode_frames, generate_clip, h264
from demo.shapes import LABELS

RUNNERS = {"service": planned, "full decode": full, "seeking": seeking}
WANTED = [3, 10, 11, 30]


@pytest.fixture(scope="module")
def content() -> bytes:
    return encode_frames(generate_clip(1, LABELS.index("rotating clockwise")).frames, FPS, h264(23))


def test_all_are_measured_with_the_same_frames(content: bytes) -> None:
    decoded = decoded_frames(RUNNERS, content, WANTED)
    assert all(count >= len(WANTED) for count in decoded.values())
    assert measure(RUNNERS, content, WANTED, 1).keys() == RUNNERS.keys()


@pytest.mark.parametrize("name", RUNNERS)
def test_one_that_gives_other_frames_ends_the_comparison(content: bytes, name: str) -> None:
    def one_too_late(content: bytes, wanted: list[int]) -> tuple[dict[int, np.ndarray], int]:
        frames, decoded = full(content, [number + 1 for number in wanted])
        return {number - 1: frame for number, frame in frames.items()}, decoded

    with pytest.raises(SystemExit, match=rf"^{name} gives other frames .* \[3, 10, 11, 30\]$"):
        decoded_frames({**RUNNERS, name: one_too_late}, content, WANTED)
