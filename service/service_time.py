"""How long waiting work will take, judged by what finished work took."""

from __future__ import annotations

from math import ceil

# Weight of the newest measurement: the last dozen decide, so that the estimate follows a change of load within seconds.
NEWEST = 0.15


class ServiceTime:
    """Exponentially weighted mean of the seconds that one unit of work takes."""

    def __init__(self) -> None:
        self._seconds: float | None = None

    def observe(self, units: int, seconds: float) -> None:
        """Take note that `units` of work took `seconds` together."""
        sample = seconds / units
        self._seconds = sample if self._seconds is None else (1 - NEWEST) * self._seconds + NEWEST * sample

    def of(self, units: float) -> float:
        """Return the seconds that `units` of work will take; 0 as long as nothing was measured."""
        return 0.0 if self._seconds is None else units * self._seconds


def retry_after(seconds: float) -> int:
    """Return the value of a Retry-After header for a wait of `seconds`: whole seconds, at least one."""
    return max(1, ceil(seconds))
