"""The dynamic batcher: views of many callers run together, and nobody is lost or harmed by a neighbour.

The window of a batch opens with its first view and closes when the batch is full, or when it is the model's turn to run
and the delay is over or no other request is on its way: until then views that arrive still find a place. A batch that
is full is put together at once, beside the one that runs. Views of one shape that want the same output share a batch.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BadParameterError, InternalError, NotReadyError, QueueFullError
from service.fairness import FairGate
from service.instance import Instance
from service.metrics import ClosedBy, ModelMetrics
from service.priority import Priority, place_in_line
from service.runtimes.base import OutputName, Runtime
from service.service_time import ServiceTime, retry_after
from service.statistics import ModelStatistics

logger = logging.getLogger(__name__)

# What is said in Retry-After while no instance runs batches: nobody knows when one will.
NOT_RUNNING_SECONDS = 10


@dataclass(frozen=True)
class BatchSettings:
    """How batches are formed.

    Attributes:
        max_batch_size: Views in one batch.
        max_queue_delay: Seconds that a batch waits to be filled, from its first view on.
        max_queue_size: Views that may wait; a request whose views would go over it is refused.
        batch_sizes: Sizes at which the network is run, ascending, the last one `max_batch_size`: a smaller batch is
            filled up to the next. Empty: every size.
        runtime_timeout: Seconds after which a run is taken for one that may never return.
    """

    max_batch_size: int
    max_queue_delay: float
    max_queue_size: int
    batch_sizes: tuple[int, ...] = ()
    runtime_timeout: float = 60.0

    @property
    def sizes(self) -> Sequence[int]:
        """All sizes at which the network is run."""
        return self.batch_sizes or range(1, self.max_batch_size + 1)

    def padded(self, views: int) -> int:
        """Return the size at which a batch of so many views is run."""
        return next(size for size in self.sizes if size >= views)


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
    place: float
    future: asyncio.Future[ViewOutput]
    submitted: float = field(default_factory=perf_counter)

    def fits(self, other: _Item) -> bool:
        """Whether both can be run in one batch."""
        return self.output == other.output and self.frames.shape == other.frames.shape


@dataclass(frozen=True)
class _Batch:
    """Views that run together; `frames` has them all, and zeros up to the size at which they run."""

    items: list[_Item]
    closed_by: ClosedBy
    frames: NDArray[np.uint8]
    preparation: float  # seconds that putting it together took


@dataclass(frozen=True)
class _Ahead:
    """A full batch that is put together while another one runs."""

    items: list[_Item]
    batch: asyncio.Task[_Batch | None]


class Caller:
    """A request as the batcher of its model knows it: batches wait for its views while these are on their way."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._expected = 0

    def expect(self, submits: int) -> None:
        """Announce so many more submits: they come without waiting for one another's results."""
        self._expected += submits
        self._batcher.expect(submits)

    def finish(self) -> None:
        """Tell that nothing more comes."""
        self.expect(-self._expected)

    async def submit(
        self,
        views: NDArray[np.uint8],
        output: OutputName = "logits",
        priority: Priority = "normal",
        more: bool = False,
    ) -> list[ViewOutput]:
        """Run the views (N, ...) of one submit that was announced; `more`: another one follows these results.

        Raises:
            ServiceError: As Batcher.submit.
        """
        self.expect(-1)
        outputs = await self._batcher.submit(views, output, priority)
        if more:
            self.expect(1)
        return outputs


class Batcher:
    """Batches the views of one model.

    Args:
        runtimes: The instances of the model; each runs one batch at a time, in `executor`.
        executor: Threads for the work that must not block the event loop: one an instance, and one to prepare.
        settings: Sizes and delays.
        gate: Shared by the models that run on the same cores.
        metrics: Where batches are counted; its name is the model's.
        probe: Has an instance run what it is known to run, and raises if it does not; None: nothing is known.

    Attributes:
        statistics: What was run so far.
    """

    def __init__(
        self,
        runtimes: Sequence[Runtime],
        executor: Executor,
        settings: BatchSettings,
        gate: FairGate,
        metrics: ModelMetrics,
        probe: Callable[[Runtime], None] | None = None,
    ) -> None:
        self.settings = settings
        self.statistics = ModelStatistics()
        self._executor = executor
        self._gate = gate
        self._metrics = metrics
        self._instances = [
            Instance(metrics.name, runtime, executor, settings.runtime_timeout, probe) for runtime in runtimes
        ]
        # Submits on their way.
        self._expected = 0
        self._queue: list[_Item] = []
        self._ahead: _Ahead | None = None
        self._arrived = asyncio.Event()
        self._seconds_a_view = ServiceTime()
        self._tasks: list[asyncio.Task[None]] = []
        self._unanswered: set[_Item] = set()
        self._stopped = False

    @property
    def queue_depth(self) -> int:
        """Views that wait for their run."""
        ahead = self._ahead.items if self._ahead else []
        return len(self._queue) + len(_wanted(ahead))

    def expected_wait(self, priority: Priority) -> float:
        """Return the seconds until all views that new ones would wait for have run, judged by the last batches."""
        # The queue is sorted, and as long as max_queue_size: this is asked for every request.
        behind = len(self._queue) - bisect_right(self._queue, place_in_line(priority), key=lambda item: item.place)
        return self._seconds_for(self.queue_depth - behind)

    @property
    def alive(self) -> bool:
        """Whether every instance takes batches; the server is not ready otherwise."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    @property
    def problem(self) -> str:
        """Why not every instance runs batches; empty: all do. The server is not ready otherwise."""
        if not self.alive:
            return "its batcher has stopped"
        return next((instance.problem for instance in self._instances if instance.problem), "")

    @property
    def _none_runs(self) -> bool:
        return all(instance.problem for instance in self._instances)

    def check_running(self) -> None:
        """Go on if an instance runs batches.

        Raises:
            NotReadyError: The runs of all of them fail, or last longer than they may.
        """
        if self._none_runs:
            raise self._not_running()

    def _not_running(self) -> NotReadyError:
        return NotReadyError(f"{self._metrics.name} takes no requests: {self.problem}", retry_after=NOT_RUNNING_SECONDS)

    def _refuse_if_none_runs(self) -> None:
        """Refuse whoever waits, at once, if no instance takes batches any more."""
        if self._none_runs:
            waiting = [*self._queue, *(self._ahead.items if self._ahead else [])]
            self._queue = []
            _fail(waiting, self._not_running())

    def start(self) -> None:
        """Start running batches in the running event loop."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._serve(instance)) for instance in self._instances]

    async def stop(self) -> None:
        """Stop; whatever is still waiting is told that the server is going away."""
        self._stopped = True
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *([self._ahead.batch] if self._ahead else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._queue, self._ahead = [], None
        # A task that was cancelled keeps its frame, which knows the runtime: its memory would stay until a collection.
        self._tasks = []
        _fail(self._unanswered, _stopping())

    @contextmanager
    def caller(self) -> Iterator[Caller]:
        """Accept a request, which the block is: one submit is on its way, unless the caller says something else."""
        caller = Caller(self)
        caller.expect(1)
        try:
            yield caller
        finally:
            caller.finish()

    def expect(self, submits: int) -> None:
        """Count so many more submits that are on their way, or fewer."""
        self._expected += submits
        if not self._expected:
            # A batch that waited for them has nothing to wait for.
            self._arrived.set()

    async def submit(
        self, views: NDArray[np.uint8], output: OutputName = "logits", priority: Priority = "normal"
    ) -> list[ViewOutput]:
        """Run the views (N, ...) of one request, batched with those of others; returns in the order of the views.

        A caller that is cancelled takes its waiting views out of the queue.

        Raises:
            QueueFullError: The views do not fit into the queue now, or had to give way to others with more priority.
            BadParameterError: They never would.
            InternalError: The runtime failed.
            NotReadyError: The batcher was stopped, or nothing runs batches.
        """
        if self._stopped:
            raise _stopping()
        self.check_running()
        if len(views) > self.settings.max_queue_size:
            raise BadParameterError(
                f"the request has {len(views)} views and the queue takes {self.settings.max_queue_size}: ask for fewer"
            )
        loop, place = asyncio.get_running_loop(), place_in_line(priority)
        self._make_room(len(views), place)
        items = [_Item(view, output, place, loop.create_future()) for view in views]
        self._unanswered.update(items)
        for item in items:
            insort(self._queue, item, key=lambda waiting: waiting.place)
        self._prepare_ahead()
        self._arrived.set()
        try:
            return list(await asyncio.gather(*(item.future for item in items)))
        except BaseException:
            self._withdraw(items)
            raise
        finally:
            self._unanswered.difference_update(items)

    def _make_room(self, views: int, place: float) -> None:
        """Refuse as many requests from behind `place` as it takes for so many views, or else the one that has them."""
        depth = self.queue_depth
        too_many = depth + views - self.settings.max_queue_size
        if too_many <= 0:
            return
        full = QueueFullError(
            f"{depth} views are waiting and at most {self.settings.max_queue_size} may; "
            f"one more request has {views}: try again later",
            retry_after=retry_after(self._seconds_for(too_many)),
        )
        behind = self._behind(place)
        if len(behind) < too_many:
            raise full
        # The views of a request have one place, and are of no use without each other.
        least = behind[-too_many].place
        _fail([item for item in behind if item.place >= least], full)
        self._queue = _wanted(self._queue)

    def _behind(self, place: float) -> list[_Item]:
        return [item for item in self._queue if item.place > place and not item.future.done()]

    def _withdraw(self, items: list[_Item]) -> None:
        """Take views that nobody waits for any more out of the queue."""
        gone = {item for item in items if item.future.cancelled() or not item.future.done()}
        for item in gone:
            item.future.cancel()
        self._queue = [item for item in self._queue if item not in gone]
        self._metrics.views_cancelled(len(gone))

    def _seconds_for(self, views: int) -> float:
        return self._seconds_a_view.of(views) / len(self._instances)

    async def _serve(self, instance: Instance) -> None:
        """Run one batch after the other on one instance."""
        while True:
            await self._until_due()
            began = perf_counter()
            async with self._gate.turn(self._metrics.name) as end_turn:
                if self._seconds_until_due() != 0:
                    # Another instance had its turn first and took what was due.
                    continue
                batch = await self._next_batch()
                failed = await self._run(instance, batch, end_turn) if batch else []
            if batch:
                await self._run_alone(instance, failed, batch.closed_by)
                # One that hung tells nothing about the next.
                seconds = min(perf_counter() - began, self.settings.runtime_timeout)
                self._seconds_a_view.observe(len(batch.items), seconds)
            await instance.until_sound(self._gate, self._refuse_if_none_runs)

    async def _run_alone(self, instance: Instance, items: list[_Item], closed_by: ClosedBy) -> None:
        """Run the views of a batch that failed one by one, each in a turn of its own: theirs is over if it hung."""
        for item in items:
            async with self._gate.turn(self._metrics.name) as end_turn:
                if alone := await self._put_together(_wanted([item]), closed_by):
                    await self._run(instance, alone, end_turn)

    async def _until_due(self) -> None:
        """Wait until there is a batch to run: a full one, or one whose delay is over."""
        while (wait := self._seconds_until_due()) != 0:
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._arrived.wait()

    def _seconds_until_due(self) -> float | None:
        if self._ahead or self._full():
            return 0
        if not self._queue:
            return None
        if not self._more_to_come():
            return 0
        opened = min(item.submitted for item in self._queue)
        return max(0.0, opened + self.settings.max_queue_delay - perf_counter())

    def _more_to_come(self) -> bool:
        """Whether views are on their way that are not here yet: only these are worth waiting for."""
        return self._expected > 0

    def _full(self) -> bool:
        """Whether the views at the head of the queue fill a batch."""
        fitting = (item for item in self._queue if item.fits(self._queue[0]))
        return len(list(islice(fitting, self.settings.max_batch_size))) == self.settings.max_batch_size

    async def _next_batch(self) -> _Batch | None:
        """Return the batch whose turn it is, without the views that were given up; None if nothing is left of it."""
        ahead, self._ahead = self._ahead, None
        batch = await ahead.batch if ahead else await self._put_together(*self._take())
        if batch and len(wanted := _wanted(batch.items)) < len(batch.items):
            batch = await self._put_together(wanted, batch.closed_by)
        self._prepare_ahead()
        return batch

    def _prepare_ahead(self) -> None:
        """Start putting the next batch together if it is full: nothing that comes later could join it."""
        if self._ahead is None and self._full():
            items, closed_by = self._take()
            self._ahead = _Ahead(items, asyncio.get_running_loop().create_task(self._put_together(items, closed_by)))

    def _take(self) -> tuple[list[_Item], ClosedBy]:
        """Take the first view out of the queue, and those behind it that fit, as many as a batch holds.

        Also tells why there are no more.
        """
        items: list[_Item] = []
        rest: list[_Item] = []
        for item in self._queue:
            joins = len(items) < self.settings.max_batch_size and item.fits(self._queue[0])
            (items if joins else rest).append(item)
        self._queue = rest
        if len(items) == self.settings.max_batch_size:
            return items, "full"
        if rest:
            return items, "shape"
        return items, "delay" if self.settings.max_queue_delay and self._more_to_come() else "idle"

    async def _put_together(self, items: list[_Item], closed_by: ClosedBy) -> _Batch | None:
        """Return the views as one array; None if there are none, or if it fails, which they have then been told."""
        if not items:
            return None
        began = perf_counter()
        rows = self.settings.padded(len(items))
        if rows == 1:
            # One view is a batch as it lies there: nothing is copied, and no other thread is asked.
            return _Batch(items, closed_by, items[0].frames[None], perf_counter() - began)
        loop = asyncio.get_running_loop()
        try:
            frames = await loop.run_in_executor(self._executor, _stacked, [item.frames for item in items], rows)
        except Exception as error:
            logger.exception("a batch of %d views could not be put together", len(items))
            _fail(items, InternalError(f"the batch could not be put together: {error}"))
            return None
        return _Batch(items, closed_by, frames, perf_counter() - began)

    async def _run(self, instance: Instance, batch: _Batch, end_turn: Callable[[], None]) -> list[_Item]:
        """Run a batch and hand out its results; return the views to run alone if it fails: one may be to blame."""
        started = perf_counter()
        output = batch.items[0].output
        try:
            results = await instance.run(batch.frames, output, end_turn, self._refuse_if_none_runs)
        except Exception as error:
            logger.exception("a batch of %d views failed", len(batch.items))
            if len(batch.items) == 1:
                _fail(batch.items, InternalError(f"the network could not be run: {error}"))
            return _wanted(batch.items)
        done = perf_counter()
        self._metrics.batch_run(len(batch.items), batch.closed_by)
        # What was added to reach the size has no item.
        for item, row in zip(batch.items, results, strict=False):
            if not item.future.done():
                item.future.set_result(ViewOutput(row, len(batch.items), started - item.submitted))
        waited = sum(started - item.submitted for item in batch.items)
        stages = (batch.preparation, done - started, perf_counter() - done)
        self.statistics.add_batch(len(batch.items), waited, stages)
        return []


def _stacked(views: list[NDArray[np.uint8]], rows: int) -> NDArray[np.uint8]:
    frames = np.zeros((rows, *views[0].shape), np.uint8)
    np.stack(views, out=frames[: len(views)])
    return frames


def _wanted(items: list[_Item]) -> list[_Item]:
    return [item for item in items if not item.future.done()]


def _stopping() -> NotReadyError:
    return NotReadyError("the server is stopping; send the request again", retry_after=1)


def _fail(items: Iterable[_Item], error: Exception) -> None:
    for item in items:
        if not item.future.done():
            item.future.set_exception(error)
