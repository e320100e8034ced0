"""Give a request up when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import DeadlineExceededError, NotReadyError


@asynccontextmanager
async def deadline(seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
    """Cancel the block, which gets its deadline, when it takes longer than `seconds`; None: it may take any time.

    Raises:
        DeadlineExceededError: It did.
    """
    try:
        async with asyncio.timeout(seconds) as running:
            yield running
    except TimeoutError as error:
        # Something in the block may have had a limit of its own.
        if not running.expired():
            raise
        raise DeadlineExceededError(
            f"the request was not done within {seconds:g} s: the upload comes too slowly, "
            "the server is overloaded, or the request asks for too many views or windows"
        ) from error


class Deadlines:
    """Those of the accepted requests; a server that drains moves them forward.

    Args:
        drain_timeout: Seconds that a request gets at most from then on.
    """

    def __init__(self, drain_timeout: float) -> None:
        self._drain_timeout = drain_timeout
        self._running: set[asyncio.Timeout] = set()
        # When the drain is over, by the loop's clock.
        self._drained_by: float | None = None

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Cancel the block when it takes longer than `seconds`, or the drain is over before it is done.

        Raises:
            DeadlineExceededError: It took longer.
            NotReadyError: The drain was over.
        """
        try:
            async with deadline(seconds) as running:
                self._running.add(running)
                try:
                    yield
                finally:
                    self._running.discard(running)
        except DeadlineExceededError as error:
            # It may be one within the block that is over.
            if not running.expired() or running.when() != self._drained_by:
                raise
            raise NotReadyError(
                f"the server is stopping, and the request was not done within the {self._drain_timeout:g} "
                "s that it waits for; send it again",
                retry_after=1,
            ) from error

    def drain(self) -> None:
        """Let no block run for longer than the drain from now on."""
        self._drained_by = asyncio.get_running_loop().time() + self._drain_timeout
        # One that has struck may still be on its way out, and cannot be moved any more.
        for running in (running for running in self._running if not running.expired()):
            running.reschedule(min(self._drained_by, running.when() or self._drained_by))
