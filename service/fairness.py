"""Turns on a device that several models share: each gets the same time, however much one of them has to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter


class FairGate:
    """Lets so many in at the same time, and whoever has used least first.

    This is start-time fair queueing: a customer that comes back after a pause starts level with the turn that began
    last, so that nobody saves up time; it then waits for the end of the turns that are under way, and for little else.

    Args:
        places: Turns at the same time.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        # Seconds that each customer has used, and what the customer of the turn that began last had then.
        self._used: dict[str, float] = {}
        self._level = 0.0
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Callable[[], None]]:
        """Wait for a turn of customer `name`, which lasts as long as the block, or until it calls what it is given."""
        await self._wait(name)
        began, ended = perf_counter(), False

        def end() -> None:
            nonlocal ended
            if ended:
                return
            ended = True
            self._used[name] += perf_counter() - began
            # Not at once: whoever has more to do asks for its next turn first, and is compared with the others.
            self._free += 1
            asyncio.get_running_loop().call_soon(self._admit)

        try:
            yield end
        finally:
            end()

    async def _wait(self, name: str) -> None:
        self._used[name] = max(self._used.get(name, 0.0), self._level)
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (name, admitted)
        self._waiting.append(entry)
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.cancelled():
                self._waiting.remove(entry)
            else:
                self._free += 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._free:
            wanted = [entry for entry in self._waiting if not entry[1].cancelled()]
            if not wanted:
                return
            # min() takes the first of equals: the one that has waited longest.
            entry = min(wanted, key=lambda waiting: self._used[waiting[0]])
            self._waiting.remove(entry)
            self._free -= 1
            self._level = self._used[entry[0]]
            entry[1].set_result(None)
