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
    assert frames_at(ten_a_second, 0.55, 1.6, 2.0) == [6, 11]
    assert frames_at(ten_a_second, None, None, 0.01) == [0]
    assert frames_at(ten_a_second, None, None, 1e9) == list(range(35))


def test_part_without_frames_is_refused() -> None:
    with pytest.raises(BadParameterError, match=r"^start=9\.0: no frame shows then"):
        frames_at(index([0, 100, 200]), 9.0, None, 1.0)


@given(st.lists(st.integers(1, 900), max_size=25), st.integers(1, 40))
def test_the_frame_that_shows_at_each_sample_is_taken(gaps: list[int], samples_a_second: int) -> None:
    """Frame rates that vary: walk over the samples one by one."""
    times = [0]
    for gap in gaps:
        times.append(times[-1] + gap)
    # The rate is unknown, so the last frame shows for a moment only.
    expected = {0}
    sample = Fraction(0)
    while sample < times[-1]:
        expected.add(max(number for number, time in enumerate(times) if time <= sample))
        sample += Fraction(1000, samples_a_second)
    assert frames_at(index(times), None, None, float(samples_a_second)) == sorted(expected)
