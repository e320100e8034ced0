"""The decode workers of a server: a fixed number of processes, each given one upload at a time.

Hostile media can crash FFmpeg, stall it or make it eat memory. Here that costs the one request whose upload did it: a
worker that dies or overruns its time is replaced, and the next request gets a fresh one.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import insort
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any, Literal, TypeVar

from service.errors import InternalError, MediaLimitError, QueueFullError, ServiceError
from service.media.types import AnyRequest
from service.media.worker_process import Decoded, ResultT, UntouchedError, WorkerProcess
from service.metrics import LostBy
from service.priority import Priority, place_in_line
from service.service_time import ServiceTime, retry_after

logger = logging.getLogger(__name__)

T = TypeVar("T")

ABANDONED_SECONDS = 0.2
FIRST_IN_LINE = 0.0


class DecodePool:
    """A fixed number of decode workers behind a bounded waiting line.

    Args:
        workers: Processes; as many uploads are decoded at the same time.
        max_waiting: Requests that may wait for a free worker.
        memory_bytes: Address space of a worker.
        timeout: Seconds that one upload may take; a worker that takes longer is killed and replaced.
        cpu_seconds: Processor time that one upload may take, whole seconds; likewise.
        sandbox: Whether workers whose system calls cannot be filtered do ("auto"), or stop the start ("required").
        on_lost: Called whenever a worker is lost or given up, with the reason.

    Attributes:
        worker_module: The program that a worker runs.
    """

    worker_module = "service.media.worker"

    def __init__(
        self,
        workers: int,
        max_waiting: int,
        memory_bytes: int,
        timeout: float,
        cpu_seconds: int,
        sandbox: Literal["auto", "required"] = "auto",
        on_lost: Callable[[LostBy], None] = lambda _: None,
    ) -> None:
        self.size = workers
        self.max_waiting = max_waiting
        self.memory_bytes = memory_bytes
        self.timeout = timeout
        self.cpu_seconds = cpu_seconds
        self.sandbox = sandbox
        self._on_lost = on_lost
        self._idle: list[WorkerProcess] = []
        self._all: set[WorkerProcess] = set()
        self._waiting: list[tuple[float, asyncio.Future[WorkerProcess]]] = []
        self._seconds_an_upload = ServiceTime()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._start_failed = False
        self._closing = False

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return sum(not future.done() for _, future in self._waiting)

    def expected_wait(self, priority: Priority) -> float:
        """Return the seconds until all that a new request would wait for have a worker, judged by the last uploads."""
        place = place_in_line(priority)
        return self._seconds_for(sum(ahead <= place and not future.done() for ahead, future in self._waiting))

    @property
    def expected_decode(self) -> float:
        """Seconds that an upload takes to decode, judged by the last ones; 0 before the first."""
        return self._seconds_an_upload.of(1)

    @property
    def has_idle(self) -> bool:
        """Whether a worker is free, so that the next request need not wait."""
        return bool(self._idle)

    def _seconds_for(self, uploads: int) -> float:
        return self._seconds_an_upload.of(uploads) / self.size

    @property
    def alive(self) -> bool:
        """Whether uploads are decoded, if not now then as soon as a lost worker is replaced."""
        return not self._start_failed or any(worker.alive for worker in self._all)

    @property
    def unfiltered(self) -> str | None:
        """Why there are workers whose system calls are not filtered; None if there are none."""
        return next((worker.unfiltered for worker in self._all if worker.unfiltered), None)

    async def start(self) -> None:
        """Start all workers; returns when every one takes requests.

        Raises:
            InternalError: One does not start, or cannot be confined as required.
        """
        await asyncio.gather(*(self._add_worker() for _ in range(self.size)))
        if self.unfiltered:
            logger.warning("decode sandbox: resource limits; system calls are not filtered: %s", self.unfiltered)
        else:
            logger.info("decode sandbox: resource limits, system calls filtered (no files, no network, no processes)")

    async def close(self) -> None:
        """End all workers."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._all:
            worker.kill()
        self._all.clear()
        self._idle.clear()

    async def acquire(self, priority: Priority = "normal") -> WorkerProcess:
        """Wait for a free worker, in order of arrival and priority. It is the caller's until `decode` or `release`.

        Raises:
            QueueFullError: `max_waiting` requests are waiting already, and none of them with less priority; or this one
                had to give way to one with more.
        """
        if worker := self._idle_worker():
            return worker
        place = place_in_line(priority)
        if self.waiting >= self.max_waiting:
            self._make_room(place)
        return await self._next_worker(place)

    def _make_room(self, place: float) -> None:
        """Refuse whoever waits furthest behind `place`, or else the request that is to wait there."""
        full = QueueFullError(
            f"{self.waiting} uploads are waiting to be decoded, as many as may; try again later",
            retry_after=retry_after(self._seconds_for(1)),
        )
        behind = [future for ahead, future in self._waiting if ahead > place and not future.done()]
        if not behind:
            raise full
        behind[-1].set_exception(full)

    def _idle_worker(self) -> WorkerProcess | None:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            self._replace(worker)
        return None

    async def _next_worker(self, place: float) -> WorkerProcess:
        """Wait for a worker at a place in the line."""
        future: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        insort(self._waiting, (place, future), key=lambda waiting: waiting[0])
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release(future.result())
            raise

    def release(self, worker: WorkerProcess) -> None:
        """Hand an acquired worker on to the next request that waits, or note that it is free."""
        while self._waiting:
            _, future = self._waiting.pop(0)
            if not future.done():
                future.set_result(worker)
                return
        self._idle.append(worker)

    async def decode(
        self, worker: WorkerProcess, upload: int, request: AnyRequest, result_type: type[ResultT]
    ) -> Decoded[ResultT]:
        """Decode on an acquired worker, which is then released, or replaced if it was lost or ran out of time.

        A caller that is cancelled leaves at once. Its worker gets a moment to finish, which is cheaper than starting
        another one, and is then stopped. An upload that its worker has not looked at, because it had ended by then,
        goes to one other worker: no upload costs more than one.

        Raises:
            ServiceError: As `service.errors` says for bad media; MediaLimitError when the time is over.
        """
        try:
            return await self._decode_unless_left(worker, upload, request, result_type)
        except UntouchedError:
            logger.warning("decode worker %d had ended when it got its next upload", worker.process.pid)
            # The request has waited in the line already.
            another = self._idle_worker() or await self._next_worker(FIRST_IN_LINE)
            return await self._decode_unless_left(another, upload, request, result_type)

    async def _decode_unless_left(
        self, worker: WorkerProcess, upload: int, request: AnyRequest, result_type: type[ResultT]
    ) -> Decoded[ResultT]:
        task = self._spawn(self._decode(worker, upload, request, result_type))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._spawn(self._abandon(task))
            raise

    async def _abandon(self, task: asyncio.Task[Decoded[ResultT]]) -> None:
        await asyncio.wait({task}, timeout=ABANDONED_SECONDS)
        # If it is done, that changes nothing; if not, it has its worker killed and replaced.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _decode(
        self, worker: WorkerProcess, upload: int, request: AnyRequest, result_type: type[ResultT]
    ) -> Decoded[ResultT]:
        healthy = False
        given_up: LostBy | None = None
        began = perf_counter()
        try:
            async with asyncio.timeout(self.timeout):
                decoded = await worker.decode(upload, request, result_type, self.cpu_seconds)
            healthy = True
            return decoded
        except TimeoutError as error:
            given_up = "timeout"
            raise MediaLimitError(
                f"decoding the upload takes longer than {self.timeout:g} s: send a shorter or smaller one"
            ) from error
        except asyncio.CancelledError:
            given_up = "abandoned"
            raise
        except InternalError:
            # The worker is lost, or talks nonsense and is not to run a moment longer.
            given_up = "nonsense" if worker.alive else None
            raise
        except ServiceError:
            # A verdict about the media; only a dead worker cannot go on.
            healthy = worker.alive
            raise
        finally:
            self._seconds_an_upload.observe(1, perf_counter() - began)
            if healthy:
                self.release(worker)
            else:
                self._replace(worker, given_up)

    def _replace(self, worker: WorkerProcess, given_up: LostBy | None = None) -> None:
        """Have another worker take the place of one that was given up for a reason, or that was lost."""
        # Closing kills all that are left.
        if not self._closing:
            self._spawn(self._kill_and_add(worker, given_up))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _kill_and_add(self, worker: WorkerProcess, given_up: LostBy | None) -> None:
        self._on_lost(await asyncio.to_thread(worker.lost_by) if given_up is None else given_up)
        await asyncio.to_thread(worker.kill)
        self._all.discard(worker)
        while True:
            try:
                return await self._add_worker()
            except (InternalError, OSError):
                self._start_failed = True
                logger.exception("could not start a decode worker; trying again")
                await asyncio.sleep(1.0)

    async def _add_worker(self) -> None:
        worker = await WorkerProcess.start(self.worker_module, self.memory_bytes)
        if worker.unfiltered and self.sandbox == "required":
            worker.kill()
            raise InternalError(
                f"decode workers cannot be confined: {worker.unfiltered}; sandbox=auto would serve without the filter"
            )
        self._start_failed = False
        self._all.add(worker)
        self.release(worker)
