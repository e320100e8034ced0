"""Which frames of a video become pictures."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadParameterError
from service.media.pictures import frames_at
from service.media.timing import FrameIndex


def index(milliseconds: list[int], fps: int | None = None) -> FrameIndex:
    return FrameIndex(tuple(milliseconds), Fraction(1, 1000), None if fps is None else Fraction(fps))


def test_one_frame_a_second_from_the_first_on() -> None:
    ten_a_second = index([100 * i for i in range(35)], fps=10)
    assert frames_at(ten_a_second, None, None, 1.0) == [0, 10, 20, 30]
    assert frames_at(ten_a_second, None, None, 2.5) == [0, 4, 8, 12, 16, 20, 24, 28, 32]
    # At 0.55, 1.05 and 1.55 s; frame 5 shows from 0.5 s on.
    assert frames_at(ten_a_second, 0.55, 1.6, 2.0) == [5, 10, 15]
    assert frames_at(ten_a_second, None, None, 0.01) == [0]
    assert frames_at(ten_a_second, None, None, 1e9) == list(range(35))


def test_frame_that_shows_for_long_is_there_wherever_a_part_begins() -> None:
    long_second = index([0, 40, 5040, 5080, 5180], fps=25)
    assert frames_at(long_second, 1.0, None, 1.0) == [1]
    assert frames_at(long_second, 1.0, 4.0, 1.0) == [1]
    assert frames_at(long_second, 0.04, 0.05, 1.0) == [1]
    assert frames_at(long_second, 5.21, None, 1.0) == [4]
    # At 1, 3.03, 5.06 s; at 0.5, 2.8, 5.1 s.
    assert frames_at(long_second, 1.0, None, 1 / 2.03) == [1, 2]
    assert frames_at(long_second, 0.5, None, 1 / 2.3) == [1, 3]
    with pytest.raises(BadParameterError, match=r"^start=5\.22: no frame shows then; the video's length is 5\.220 s"):
        frames_at(long_second, 5.22, None, 1.0)


def test_frame_with_no_sample_before_the_end_is_left_out() -> None:
    # At 0, 1 and 2 s; frame 2 shows from 1.5 s on.
    assert frames_at(index([0, 700, 1500, 2500]), None, 1.9, 1.0) == [0, 1]
    assert frames_at(index([0, 700, 1500, 2500]), None, 2.1, 1.0) == [0, 1, 2]


def test_part_without_frames_is_refused() -> None:
    with pytest.raises(BadParameterError, match=r"^start=9\.0: no frame shows then"):
        frames_at(index([0, 100, 200]), 9.0, None, 1.0)


@given(st.lists(st.integers(1, 900), max_size=25), st.integers(1, 40), st.integers(0, 9999), st.integers(1, 9999))
def test_the_frame_that_shows_at_each_sample_is_taken(
    gaps: list[int], samples_a_second: int, start: int, length: int
) -> None:
    """Frame rates that vary: walk over the samples one by one."""
    times = [0]
    for gap in gaps:
        times.append(times[-1] + gap)
    # The rate is unknown, so the last frame shows for a moment only.
    start %= times[-1] + 1
    end = start + length
    expected = {max(number for number, time in enumerate(times) if time <= start)}
    sample = Fraction(start)
    while sample < min(times[-1], end):
        expected.add(max(number for number, time in enumerate(times) if time <= sample))
        sample += Fraction(1000, samples_a_second)
    assert frames_at(index(times), start / 1000, end / 1000, float(samples_a_second)) == sorted(expected)
