"""How often somebody may do something: so many times a second in the long run, and some more at once after a pause."""

from __future__ import annotations


class TokenBucket:
    """A bucket that tokens drip into until it is full; whatever is done takes one out.

    Args:
        rate: Tokens a second.
        capacity: Tokens that fit; the bucket is full at first.
        now: Seconds, by the clock that `take` is told.
    """

    def __init__(self, rate: float, capacity: int, now: float) -> None:
        self._rate = rate
        self._capacity = capacity
        self._tokens = float(capacity)
        self._filled_at = now

    def take(self, now: float) -> float:
        """Take a token out if there is one.

        Returns:
            0 if there was; otherwise the seconds until there will be one, and nothing is taken.
        """
        self._tokens = min(self._capacity, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0
