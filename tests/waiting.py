"""Wait for what nothing announces: look, pause, look again, and fail in the end."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE_SECONDS = 0.05


def wait_for(condition: Callable[[], T | None], seconds: float = 60, report: Callable[[], str] = str) -> T:
    """Return what a condition gives once that is true.

    Args:
        condition: Looks at what is waited for.
        seconds: When to give up.
        report: Adds to the message of the failure.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_failure(found, seconds, report()))
        time.sleep(PAUSE_SECONDS)
    return found


async def until(condition: Callable[[], T | None], seconds: float = 60) -> T:
    """Do as `wait_for`, while the other tasks of the event loop go on."""
    __tracebackhide__ = True
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_failure(found, seconds))
        await asyncio.sleep(PAUSE_SECONDS)
    return found


def _failure(found: object, seconds: float, report: str = "") -> str:
    return f"what was waited for did not come within {seconds:g} s: it is still {found!r}\n{report}".rstrip()
