"""How often something may be done: what the bucket lets through, at any sequence of times."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.token_bucket import TokenBucket


def test_full_at_first_then_at_its_rate() -> None:
    bucket = TokenBucket(2.0, 3, now=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [0, 0, 0, 0.5]
    # Asking in vain costs nothing.
    assert bucket.take(100.25) == pytest.approx(0.25)
    assert bucket.take(100.5) == 0
    assert bucket.take(100.5) == pytest.approx(0.5)


def test_holds_no_more_than_fits_however_long_the_pause() -> None:
    bucket = TokenBucket(10.0, 2, now=0.0)
    assert [bucket.take(1e6) for _ in range(3)] == [0, 0, pytest.approx(0.1)]


# Powers of two, which floating point adds without an error, so that the bound can be exact.
STEPS = st.lists(st.integers(0, 64), min_size=1, max_size=200)


@given(STEPS, st.sampled_from([0.25, 1.0, 4.0]), st.integers(1, 8))
def test_lets_through_what_the_rate_allows_in_every_interval(steps: list[int], rate: float, capacity: int) -> None:
    now, taken = 0.0, []
    bucket = TokenBucket(rate, capacity, now)
    for step in steps:
        now += step / 16
        wait = bucket.take(now)
        if wait == 0:
            taken.append(now)
        else:
            # There is a token after the time it named, and no sooner.
            assert 0 < wait <= 1 / rate
    for i, begin in enumerate(taken):
        for count, end in enumerate(taken[i:], start=1):
            assert count <= capacity + Fraction(end - begin) * Fraction(rate)


@given(STEPS, st.sampled_from([0.25, 1.0, 4.0]), st.integers(1, 8))
def test_who_waits_as_told_is_let_through(steps: list[int], rate: float, capacity: int) -> None:
    now = 0.0
    bucket = TokenBucket(rate, capacity, now)
    for step in steps:
        now += step / 64
        if wait := bucket.take(now):
            now += wait
            assert bucket.take(now) == 0
