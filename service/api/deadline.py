"""Give a request up when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import DeadlineExceededError


@asynccontextmanager
async def deadline(seconds: float | None) -> AsyncIterator[None]:
    """Cancel the block when it takes longer than `seconds`; None: it may take any time.

    Raises:
        DeadlineExceededError: It did.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise past_deadline(seconds) from error


def past_deadline(seconds: float | None) -> DeadlineExceededError:
    """Return the error of a request that was not done within `seconds`."""
    return DeadlineExceededError(
        f"the request was not done within {seconds:g} s: the upload comes too slowly, "
        "the server is overloaded, or the request asks for too many views or windows"
    )
