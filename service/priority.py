"""Where a request stands in a waiting line."""

from __future__ import annotations

from time import perf_counter
from typing import Literal

Priority = Literal["normal", "low"]

# What comes with low priority waits as if it had come so many seconds later: behind whatever normal work comes in that
# time, and ahead of all that comes after it, so that it is never left waiting for ever.
LOW_PRIORITY_SECONDS = 5.0


def place_in_line(priority: Priority) -> float:
    """Return the sort key of what comes now: perf_counter(), later for low priority."""
    return perf_counter() + (LOW_PRIORITY_SECONDS if priority == "low" else 0.0)
