"""Masks, pictures and sheets are made in threads of their own, as many as there are cores.

Nobody else's work waits behind them, such as the starting and stopping of decode workers, and what waits for a thread
can be called off. A thread that has begun cannot: its place and the request's memory are taken until it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from service.memory import Lease

P = ParamSpec("P")
T = TypeVar("T")


class Rendering:
    """A number of threads, and a place in each of them.

    Args:
        threads: How many.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, "rendering")
        self._places = asyncio.Semaphore(threads)

    async def run(self, memory: Lease, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work` returns, called in a thread that uses `memory` until it ends, even if nobody waits."""
        await self._places.acquire()
        memory.hold()

        def end(_future: asyncio.Future[T]) -> None:
            self._places.release()
            memory.drop()

        future = asyncio.get_running_loop().run_in_executor(self._executor, partial(work, *args, **kwargs))
        future.add_done_callback(end)
        return await asyncio.shield(future)

    def close(self) -> None:
        """Let the threads go once they have no work."""
        self._executor.shutdown(wait=False)
