"""The dynamic batcher: views of many callers run together, and nobody is lost or harmed by a neighbour.

One task forms batches, another runs them: batch n+1 is put together while batch n runs, and no sooner, so that views
which arrive meanwhile still find a place in it. The window of a batch opens with its first view and closes when the
batch is full or the delay is over. Views of one shape that want the same output share a batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import Executor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BadParameterError, InternalError, NotReadyError, QueueFullError
from service.runtimes.base import OutputName, Runtime
from service.statistics import ModelStatistics

logger = logging.getLogger(__name__)

BATCHES_AT_ONCE = 2  # one that runs, one that is being put together


@dataclass(frozen=True)
class BatchSettings:
    """How batches are formed.

    Attributes:
        max_batch_size: Views in one batch.
        max_queue_delay: Seconds that a batch waits to be filled, from its first view on.
        max_queue_size: Views that may wait; a request whose views would go over it is refused.
    """

    max_batch_size: int
    max_queue_delay: float
    max_queue_size: int


@dataclass(frozen=True)
class ViewOutput:
    """Result of one view.

    Attributes:
        output: What the network made of it, without the batch axis.
        batch_size: Views that ran together with this one, itself included.
        queued: Seconds from submission to the start of the run.
    """

    output: NDArray[Any]
    batch_size: int
    queued: float


@dataclass(eq=False)
class _Item:
    frames: NDArray[np.uint8]
    output: OutputName
    future: asyncio.Future[ViewOutput]
    submitted: float = field(default_factory=perf_counter)

    def fits(self, other: _Item) -> bool:
        """Whether both can be run in one batch."""
        return self.output == other.output and self.frames.shape == other.frames.shape


@dataclass(frozen=True)
class _Batch:
    items: list[_Item]
    frames: NDArray[np.uint8]
    preparation: float  # seconds that putting it together took


class Batcher:
    """Batches the views of one model.

    Args:
        runtime: Runs the batches, in `executor`.
        executor: Threads for the work that must not block the event loop.
        settings: Sizes and delays.

    Attributes:
        statistics: What was run so far.
    """

    def __init__(self, runtime: Runtime, executor: Executor, settings: BatchSettings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.statistics = ModelStatistics()
        self._executor = executor
        self._queue: deque[_Item] = deque()
        self._arrived = asyncio.Event()
        self._formed: asyncio.Queue[_Batch] = asyncio.Queue()
        self._places = asyncio.Semaphore(BATCHES_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def queue_depth(self) -> int:
        """Views that wait to become part of a batch."""
        return len(self._queue)

    @property
    def alive(self) -> bool:
        """Whether both tasks run; the server is not ready without them."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def start(self) -> None:
        """Start forming and running batches in the running event loop."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._form_batches()), loop.create_task(self._run_batches())]

    async def stop(self) -> None:
        """Stop; whatever is still waiting is told that the server is going away."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        leftover = list(self._queue)
        self._queue.clear()
        while not self._formed.empty():
            leftover += self._formed.get_nowait().items
        _fail(leftover, _stopping())

    async def submit(self, views: NDArray[np.uint8], output: OutputName = "logits") -> list[ViewOutput]:
        """Run the views (N, ...) of one request, batched with those of others; returns in the order of the views.

        A caller that is cancelled takes its waiting views out of the queue.

        Raises:
            QueueFullError: The views do not fit into the queue now.
            BadParameterError: They never would.
            InternalError: The runtime failed.
        """
        if self._tasks and not self.alive:
            raise InternalError("the batcher has stopped")
        if len(views) > self.settings.max_queue_size:
            raise BadParameterError(
                f"the request has {len(views)} views and the queue takes {self.settings.max_queue_size}: ask for fewer"
            )
        if len(self._queue) + len(views) > self.settings.max_queue_size:
            raise QueueFullError(
                f"{len(self._queue)} views are waiting and at most {self.settings.max_queue_size} may; "
                f"this request has {len(views)}: try again later",
                retry_after=1,
            )
        loop = asyncio.get_running_loop()
        items = [_Item(view, output, loop.create_future()) for view in views]
        self._queue.extend(items)
        self._arrived.set()
        try:
            return list(await asyncio.gather(*(item.future for item in items)))
        except BaseException:
            # One view failed or the caller left: the request has no use for its other views.
            for item in items:
                item.future.cancel()
                if item in self._queue:
                    self._queue.remove(item)
            raise

    async def _form_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._places.acquire()
            items = await self._collect()
            began = perf_counter()
            try:
                frames = await loop.run_in_executor(self._executor, np.stack, [item.frames for item in items])
                self._formed.put_nowait(_Batch(items, frames, perf_counter() - began))
            except asyncio.CancelledError:
                _fail(items, _stopping())
                raise
            except Exception as error:
                logger.exception("a batch of %d views could not be put together", len(items))
                _fail(items, InternalError(f"the batch could not be put together: {error}"))
                self._places.release()

    async def _collect(self) -> list[_Item]:
        """Wait for a first view, then for more until the batch is full or the delay is over."""
        items: list[_Item] = []
        while not items:
            await self._window()
            items = self._take()
        return items

    def _take(self) -> list[_Item]:
        """Take the first view out of the queue, and those behind it that fit, as many as a batch holds."""
        items: list[_Item] = []
        rest: deque[_Item] = deque()
        while self._queue and len(items) < self.settings.max_batch_size:
            item = self._queue.popleft()
            if item.future.done():
                continue
            (items if not items or item.fits(items[0]) else rest).append(item)
        self._queue.extendleft(reversed(rest))
        return items

    async def _window(self) -> None:
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        closes = self._queue[0].submitted + self.settings.max_queue_delay
        while len(self._queue) < self.settings.max_batch_size and (left := closes - perf_counter()) > 0:
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                return

    async def _run_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._formed.get()
            started = perf_counter()
            try:
                output = batch.items[0].output
                results = await loop.run_in_executor(self._executor, self.runtime.run, batch.frames, output)
                if len(results) != len(batch.items):
                    raise InternalError(f"{len(batch.items)} views went in, {len(results)} results came out")
            except asyncio.CancelledError:
                _fail(batch.items, _stopping())
                raise
            except Exception as error:
                logger.exception("a batch of %d views failed", len(batch.items))
                _fail(batch.items, InternalError(f"the network could not be run: {error}"))
                continue
            finally:
                self._places.release()
            done = perf_counter()
            for item, row in zip(batch.items, results, strict=True):
                if not item.future.done():
                    queued = started - item.submitted
                    item.future.set_result(ViewOutput(row, len(batch.items), queued))
            waited = sum(started - item.submitted for item in batch.items)
            stages = (batch.preparation, done - started, perf_counter() - done)
            self.statistics.add_batch(len(batch.items), waited, stages)


def _stopping() -> NotReadyError:
    return NotReadyError("the server is stopping; send the request again", retry_after=1)


def _fail(items: list[_Item], error: Exception) -> None:
    for item in items:
        if not item.future.done():
            item.future.set_exception(error)
