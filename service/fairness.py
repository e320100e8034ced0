"""Turns on cores that several models share: each gets the same time, however much one of them has to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter


@dataclass(eq=False)
class _Customer:
    """Somebody who asks for turns.

    Attributes:
        used: Seconds of turns it has had, or is taken to have had: see `FairGate`.
        present: Turns that it has or waits for.
    """

    used: float = 0.0
    present: int = 0


class FairGate:
    """Lets so many in at the same time, and whoever has used least first.

    As in start-time fair queueing, a customer that comes back after a pause starts level with the one of those present
    that has used least, so that nobody saves up time; it then waits for the end of the turns that are under way, and
    for nothing else.

    Args:
        places: Turns at the same time.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._customers: dict[str, _Customer] = {}
        self._waiting: list[tuple[_Customer, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait for a turn of customer `name`, which lasts as long as the block."""
        customer = self._enter(name)
        try:
            await self._wait(customer)
            began = perf_counter()
            try:
                yield
            finally:
                customer.used += perf_counter() - began
                self._free += 1
                self._admit()
        finally:
            customer.present -= 1

    def _enter(self, name: str) -> _Customer:
        customer = self._customers.setdefault(name, _Customer())
        others = [other.used for other in self._customers.values() if other.present]
        if not customer.present and others:
            customer.used = max(customer.used, min(others))
        customer.present += 1
        return customer

    async def _wait(self, customer: _Customer) -> None:
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (customer, admitted)
        self._waiting.append(entry)
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            else:
                self._free += 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._free and self._waiting:
            # min() takes the first of equals: the one that has waited longest.
            entry = min(self._waiting, key=lambda waiting: waiting[0].used)
            self._waiting.remove(entry)
            self._free -= 1
            entry[1].set_result(None)
