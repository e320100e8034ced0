"""How long the event loop makes others wait: whatever blocks it blocks every connection of the process."""

from __future__ import annotations

import asyncio

from prometheus_client import Histogram

SECONDS = 0.05


class Heartbeat:
    """Wakes up every `SECONDS` and observes by how much too late that was.

    Args:
        delays: Where delays go, seconds.
    """

    def __init__(self, delays: Histogram) -> None:
        self._delays = delays
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, in the running event loop."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + SECONDS, self._beat, loop, loop.time() + SECONDS)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self._delays.observe(now - due)
        self._timer = loop.call_at(now + SECONDS, self._beat, loop, now + SECONDS)
